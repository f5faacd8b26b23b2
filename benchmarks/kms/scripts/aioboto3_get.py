"""aioboto3: tasks that stream GETs into files; what fails is counted, and makes the exit status 1.

The mode of its retries comes from AWS_RETRY_MODE.
"""

import asyncio
import os
import sys

import aioboto3
from aiobotocore.config import AioConfig


async def main(prefix, dest, many):
    waiting, failed = asyncio.Queue(), []
    config = AioConfig(max_pool_connections=many + 10, s3={"addressing_style": "path"})
    async with aioboto3.Session().client("s3", config=config) as client:

        async def get(key):
            final = f"{dest}/{key.removeprefix(prefix)}"
            body = (await client.get_object(Bucket="bucket", Key=key))["Body"]
            with open(f"{final}.part", "wb", buffering=0) as file:
                while chunk := await body.read(1 << 20):
                    file.write(chunk)
            os.rename(f"{final}.part", final)

        async def work():
            while (key := await waiting.get()) is not None:
                try:
                    await get(key)
                except Exception as error:
                    failed.append(error)

        os.makedirs(dest, exist_ok=True)
        workers = [asyncio.create_task(work()) for _ in range(many)]
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix):
            for item in page.get("Contents", ()):
                waiting.put_nowait(item["Key"])
        for _ in workers:
            waiting.put_nowait(None)
        await asyncio.gather(*workers)
    if failed:
        sys.exit(f"{len(failed)} failed: {failed[0]}")


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
