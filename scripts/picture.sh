#!/usr/bin/env bash
# The README's picture of the demo: scripts/picture.sh runs/demo-…/index.html [docs/demo.png]. Needs Debian's chromium.
set -euo pipefail
report=$(realpath "$1")
target=${2:-docs/demo.png}
command -v chromium >/dev/null || { echo "picture: no chromium; sudo apt-get install -y chromium" >&2; exit 1; }
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=880,1180 --virtual-time-budget=4000 \
    --screenshot="$target" "file://$report" 2>/dev/null
