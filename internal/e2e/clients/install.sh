#!/usr/bin/env bash
# Installs the clients and frameworks: Debian's packages, if they are missing, and npm's, as package-lock.json says.
set -euo pipefail
cd "$(dirname "$0")"

packages=(python3-redis python3-celery python3-rq python3-django-redis ruby-sidekiq)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
fi
if ! command -v npm >/dev/null; then
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends nodejs npm >/dev/null
fi
npm --prefix node ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
