"""boto3: threads; small objects by get_object, large ones by its transfer manager's ranges."""

import os
import queue
import sys
import threading

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

prefix, dest, many = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = boto3.client(
    "s3",
    config=Config(max_pool_connections=many + 10, s3={"addressing_style": "path"}),
    verify=os.environ.get("AWS_CA_BUNDLE"),
)
os.makedirs(f"{dest}/{prefix}", exist_ok=True)
waiting = queue.Queue(5000)
transfer = TransferConfig(max_concurrency=10, multipart_threshold=32 << 20, multipart_chunksize=16 << 20)


def work():
    while (item := waiting.get()) is not None:
        key, size = item
        final = f"{dest}/{key}"
        if size > 32 << 20:
            client.download_file("bucket", key, final, Config=transfer)
            continue
        body = client.get_object(Bucket="bucket", Key=key)["Body"]
        with open(f"{final}.part", "wb", buffering=0) as file:
            file.writelines(body.iter_chunks(1 << 20))
        os.rename(f"{final}.part", final)


threads = [threading.Thread(target=work) for _ in range(many)]
for thread in threads:
    thread.start()
for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix):
    for item in page.get("Contents", ()):
        waiting.put((item["Key"], item["Size"]))
for _ in threads:
    waiting.put(None)
for thread in threads:
    thread.join()
