"""Schemathesis checks the server against its own OpenAPI document."""

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from serve_kit import picture
from served import Served

SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis"
#: Facts that no schema expresses: which bytes are an image, and that an image sent twice is deleted once.
SETTINGS = """
seed = 7
checks.ensure_resource_availability.enabled = false

[[operations]]
include-path = ["/v1/images", "/upload"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "409", "422"]

[[operations]]
include-path = "/v1/images/{{id}}/masks"
parameters = {{ "path.id" = "{id}" }}
# it also sends a timeout of 5e-324 s
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "504"]
"""


@pytest.mark.slow
def test_all_responses_conform_to_the_openapi_document(tmp_path):
    headers = {"Authorization": "Bearer correct-horse"}
    with Served("--backend", "grabcut", environment={"MASKMILL_TOKEN": "correct-horse"}) as server:
        answer = httpx.post(f"{server.url}/v1/images", content=picture(1, 400, 500), headers=headers).raise_for_status()
        settings = tmp_path / "schemathesis.toml"
        settings.write_text(SETTINGS.format(id=answer.json()["id"]), encoding="utf-8")
        command = [SCHEMATHESIS, "--config-file", settings, "run", f"{server.url}/openapi.json", "--max-examples", "25"]
        command += [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
        metrics = httpx.get(f"{server.url}/metrics", headers=headers).text
    assert done.returncode == 0, done.stdout
    answered = [line for line in metrics.splitlines() if "requests_total{" in line and "/readyz" not in line]
    assert not [line for line in answered if 'status="50' in line and "504" not in line]
    assert 'route="/v1/images/{id}/masks",status="200"' in metrics, [line for line in answered if "masks" in line]
