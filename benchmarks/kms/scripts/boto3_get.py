"""boto3 as many use it: threads that get object after object; what fails is counted, and makes the exit status 1.

The mode of its retries comes from AWS_RETRY_MODE.
"""

import os
import queue
import sys
import threading

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

prefix, dest, many = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = boto3.client("s3", config=Config(max_pool_connections=many + 10, s3={"addressing_style": "path"}))
transfer = TransferConfig(max_concurrency=10, multipart_threshold=32 << 20, multipart_chunksize=16 << 20)
os.makedirs(dest, exist_ok=True)
waiting, failed = queue.Queue(5000), []


def get(key, size):
    final = f"{dest}/{key.removeprefix(prefix)}"
    if size > 32 << 20:
        client.download_file("bucket", key, final, Config=transfer)
        return
    body = client.get_object(Bucket="bucket", Key=key)["Body"]
    with open(f"{final}.part", "wb", buffering=0) as file:
        file.writelines(body.iter_chunks(1 << 20))
    os.rename(f"{final}.part", final)


def work():
    while (item := waiting.get()) is not None:
        try:
            get(*item)
        except Exception as error:
            failed.append(error)


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
if failed:
    sys.exit(f"{len(failed)} failed: {failed[0]}")
