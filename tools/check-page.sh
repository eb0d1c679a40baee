#!/usr/bin/env bash
# Opens a page of `rwkvq report` in headless Chromium, wide and as on a phone, light and dark: no
# message on the console, every figure visible, nothing wider than the window, tables that sort,
# and text that stands out from what is behind it by 4.5 to 1 (WCAG AA) as computed by the browser.
# Usage: tools/check-page.sh PAGE.html OUTDIR      (screenshots go to OUTDIR; CHROMIUM names the browser)
set -euo pipefail

page="$(realpath "$1")"
mkdir -p "$2"
out="$(realpath "$2")"
browser="${CHROMIUM:-chromium}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# The same page with a check at its end, which its own policy would not let run.
probe="$work/probe.html"
sed 's/<meta http-equiv="Content-Security-Policy"[^>]*>//' "$page" > "$probe"
cat >> "$probe" <<'CHECK'
<script>
const parse = (text) => (text.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
const luminance = ([r, g, b]) => {
  const linear = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const contrast = (a, b) => {
  const [x, y] = [luminance(a), luminance(b)];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
};
const surface = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const faults = [];
let texts = 0;
for (const details of document.querySelectorAll("details")) details.open = true;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || node.closest("script") || !node.getClientRects().length) continue;
  const style = getComputedStyle(node);
  const found = contrast(parse(node.closest("svg") ? style.fill : style.color), surface(node));
  texts += 1;
  if (found < 4.5) faults.push(`contrast ${found.toFixed(2)} of ${walker.currentNode.data.trim().slice(0, 30)}`);
}
for (const figure of document.querySelectorAll("figure")) {
  const shown = [...figure.querySelectorAll("svg")].filter((svg) => svg.getBoundingClientRect().height > 50);
  if (shown.length !== 1) faults.push(`${shown.length} pictures in a figure`);
  if (!figure.querySelector("figcaption").innerText) faults.push("a figure without a caption");
}
const wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
if (wider > 0) faults.push(`${wider} pixels wider than the window`);
const table = document.querySelector("table");
const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.innerText.startsWith("bits per"));
const button = table.tHead.rows[0].cells[column].querySelector("button");
for (const sign of [1, -1]) {
  button.click();
  const values = [...table.tBodies[0].rows].map((row) => sign * row.cells[column].innerText);
  if (values.some((value, i) => i > 0 && value < values[i - 1])) faults.push("a table that does not sort");
}
console.log(`RESULT checked ${texts} texts, ${document.querySelectorAll("figure").length} figures, ` +
  `${innerWidth} pixels, ${matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"}: ` +
  (faults.length ? `FAULT ${faults.join("; ")}` : "fine"));
</script>
CHECK

failed=0
for width in 1280 390; do
    for scheme in light dark; do
        # The browser's own window does not get as narrow as a phone: a frame does.
        for name in page probe; do
            printf '<!DOCTYPE html><style>html,body{margin:0}iframe{border:0;width:%spx;height:%spx}</style><iframe src="file://%s"></iframe>' \
                "$width" 9000 "${!name}" > "$work/$name-frame.html"
        done
        colours="--blink-settings=preferredColorScheme=$([ "$scheme" = dark ] && echo 0 || echo 1)"
        run() {
            "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --allow-file-access-from-files \
                --user-data-dir="$work/profile" --virtual-time-budget=4000 --enable-logging=stderr \
                "$colours" "$@" 2> "$work/log"
        }
        run --window-size="$((width < 500 ? 500 : width)),9000" --screenshot="$out/$width-$scheme.png" "file://$work/page-frame.html"
        if grep CONSOLE "$work/log"; then failed=1; fi
        run --window-size="$((width < 500 ? 500 : width)),9000" --dump-dom "file://$work/probe-frame.html" > /dev/null
        result="$(grep -o 'RESULT .*' "$work/log" | sed 's/^RESULT //; s/", source.*//')"
        echo "${result:-no result at $width pixels, $scheme}"
        case "$result" in *": fine") ;; *) failed=1 ;; esac
    done
done
exit "$failed"
