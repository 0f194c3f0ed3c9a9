#!/bin/sh
# Builds the image, where it is not there, and writes new secrets: .env for the compose file and the profile, services.env
# for the services. Needs a Docker engine. Variables: SUITE (the checkout; unset: where this lies), PYTHON, and the ports.
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd -P)
suite=$(cd "${SUITE:-$here/../..}" && pwd -P)
for file in .env services.env; do
    [ ! -e "$here/$file" ] || { echo "prepare.sh: $here/$file is there already; remove it first" >&2; exit 1; }
done
cd "$suite"
"${PYTHON:-.venv/bin/python}" -m fixtures.providers.containers
exec "${PYTHON:-.venv/bin/python}" - "$here" << 'END'
import os
import secrets
import sys
from pathlib import Path

from fixtures.providers.containers.image import image_name
from fixtures.refapp.crypto import new_api_key
from fixtures.refapp.install import new_configuration

PORTS = {"DATABASE": 25432, "OBJECTS": 29000, "WEB": 28080, "JOB": 28081, "LLM": 28000, "OCR": 25001}
here = Path(sys.argv[1])
services = new_configuration(
    database_host="db", database_port=5432, objects_endpoint="http://objects:9000", bucket="enprivacy",
    listen={"web": "0.0.0.0:8080", "job": "0.0.0.0:8081", "llm": "0.0.0.0:8000", "ocr": "0.0.0.0:5001"},
)
services |= {"LLM_URL": "http://llm:8000", "OCR_URL": "http://ocr:5001"}
environment = {
    "IMAGE": image_name(),
    **{f"{name}_PORT": os.environ.get(f"{name}_PORT", str(port)) for name, port in PORTS.items()},
    "POSTGRES_PASSWORD": secrets.token_hex(16),
    "OPERATOR_KEY": "operator" + secrets.token_hex(6),
    "OPERATOR_SECRET": secrets.token_hex(16),
    "APPLICATION_KEY": services["OBJECT_STORAGE_ACCESS_KEY"],
    "APPLICATION_SECRET": services["OBJECT_STORAGE_SECRET_KEY"],
    "API_KEY": new_api_key(),
}
for name, values in ((".env", environment), ("services.env", services)):
    (here / name).write_text("".join(f"{key}={value}\n" for key, value in values.items()), "utf-8")
    print(f"{here / name}: written")
END
