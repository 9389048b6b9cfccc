#!/usr/bin/env bash
# From an empty project to a running suite, from one version to the next, and away again:
# velib_deploy/deploy.py. docs/OPERATING.md explains every step.
#
# Any Python from 3.11 on does: the project's, the machine's, or the one that comes with gcloud.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

run_with() {
  if [[ -n $1 ]] && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    PYTHONPATH=shared:deploy exec "$@"
  fi
}

for python in "${PYTHON:-}" .venv/bin/python python3; do
  run_with "$python" -m velib_deploy.deploy "$@"
done
run_with "$(gcloud info --format='value(basic.python_location)')" -m velib_deploy.deploy "$@"
echo "deploy.sh: Python 3.11 or newer is needed, as in PYTHON=python3.12 ./deploy.sh …" >&2
exit 2
