"""``storage.reclaimPolicy: Delete``: with the run goes its folder, and nothing beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
from cluster import Cluster
from lab import SECRET, lab

from m2r_operator import names
from m2r_train.api.runspec import run_prefix


def test_the_folder_of_a_run_goes_with_the_run(
    cluster: Cluster, crds: None, namespace: str, trainer: str, tmp_path: Path
) -> None:
    s3 = cluster.s3
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )

    def keys(prefix: str) -> list[str]:
        found = client.list_objects_v2(Bucket=s3.bucket, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", [])]

    storage = {
        "uri": f"s3://{s3.bucket}/{namespace}",
        "endpoint": s3.endpoint,
        "secretRef": {"name": SECRET},
        "reclaimPolicy": "Delete",
    }
    spec: dict[str, Any] = {
        "model": {"preset": "tiny"},
        "dataset": {"uri": f"s3://{s3.bucket}/{namespace}/nothing-here"},
        "storage": storage,
        "resources": {"cpu": "100m"},
    }
    run = {
        "apiVersion": "m2r.dev/v1alpha1",
        "kind": "RLVRJob",
        "metadata": {"name": "run"},
        "spec": spec,
    }
    with lab(cluster, namespace, tmp_path, trainer) as room:
        room.apply(run)
        room.until_phase("RLVRJob", "run", "Failed")
        metadata = room.run("RLVRJob", "run")["metadata"]
        assert metadata["finalizers"] == [names.FINALIZER]
        own = f"{namespace}/{run_prefix(namespace, 'RLVRJob', 'run', metadata['uid'])}/"
        beside = f"{own.rstrip('/')}x/model/config.json"
        for key in (f"{own}checkpoints/e1-s2/model.safetensors", beside):
            client.put_object(Bucket=s3.bucket, Key=key, Body=b"weights")
        room.cluster.delete("rlvrjobs.m2r.dev", "run", namespace=namespace, seconds=180)
        assert keys(own) == []
        assert keys(f"{namespace}/") == [beside]
        room.until("nothing is left of it", lambda: not room.jobs("RLVRJob", "run"))
        assert "PurgeGivenUp" not in room.events("run")
