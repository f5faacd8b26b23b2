"""The examples for array jobs are valid, by each scheduler's own description, and say what Sealift understands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from sealift.cli.arguments import parse
from sealift.cli.layers import settle
from sealift.sharding import Shard
from tests.support.faultserver import FaultServerThread
from tests.support.running import tree

CONFIG = Path(__file__).parents[1] / "config"
SLURM = CONFIG / "slurm-array.sh"


def batch(operation, example):
    model = ServiceModel(Loader().load_service_model("batch", "service-2"))
    given = json.loads((CONFIG / example).read_text())
    report = ParamValidator().validate(given, model.operation_model(operation).input_shape)
    assert not report.has_errors(), report.generate_report()
    return given


def shard_of(argv):
    settings, _ = settle(parse(argv).layer, {})
    assert settings.kms.rps == 4000
    return settings.selection.shard


def test_the_array_job_of_aws_batch_is_as_its_api_describes_it(monkeypatch):
    definition = batch("RegisterJobDefinition", "aws-batch-job-definition.json")
    job = batch("SubmitJob", "aws-batch-array-job.json")
    assert job["jobDefinition"] == definition["jobDefinitionName"]
    assert set(job["parameters"]) == set(definition["parameters"])

    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", "7")
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_SIZE", str(job["arrayProperties"]["size"]))
    [program, *argv] = [
        definition["parameters"][word.removeprefix("Ref::")] if word.startswith("Ref::") else word
        for word in definition["containerProperties"]["command"]
    ]
    assert program == "sealift"
    assert shard_of(argv) == Shard(8, 8)


def test_the_indexed_job_of_kubernetes_is_as_its_schema_describes_it(monkeypatch):
    job = yaml.safe_load((CONFIG / "kubernetes-indexed-job.yaml").read_text())
    kubernetes_validate.validate(job, "1.33", strict=True)

    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert shard_of(container["args"]) == Shard(3, job["spec"]["completions"])


@pytest.mark.parametrize("own", [None, "2/8"], ids=["of an array", "by itself"])
def test_the_task_of_a_slurm_array_mirrors_its_share(own, tmp_path, monkeypatch):
    [array] = re.findall(r"^#SBATCH --array=0-(\d+)$", SLURM.read_text(), re.MULTILINE)
    options = re.findall(r"^#SBATCH (\S+)$", SLURM.read_text(), re.MULTILINE)
    assert len(options) == SLURM.read_text().count("#SBATCH")  # a word each: Slurm reads no more than that
    for name, value in {"ID": "1", "MIN": "0", "MAX": array, "STEP": "1", "COUNT": "8"}.items():
        if own is None:
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    if own is not None:
        monkeypatch.setenv("SEALIFT_SHARD", own)
    with FaultServerThread() as server:
        for number in range(20):
            server.put("bucket", f"p/{number}", b"x")
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": server.url,
            "SOURCE": "s3://bucket/p/",
            "DEST": str(tmp_path / "dest"),
        }
        done = subprocess.run(["bash", SLURM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shard = Shard(2, 8)
    assert set(tree(tmp_path / "dest")) == {str(number) for number in range(20) if shard.has(f"p/{number}")}
