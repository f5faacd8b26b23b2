"""obstore: GETs into files, above 32 MiB in ranges of 16 MiB; what fails is counted, and makes the exit status 1."""

import asyncio
import os
import sys

import obstore
from obstore.store import S3Store

RANGED, PART = 32 << 20, 16 << 20


async def main(prefix, dest, many):
    store = S3Store(
        "bucket",
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    waiting, failed = asyncio.Queue(), []

    async def get(path, size):
        final = f"{dest}/{path.removeprefix(prefix)}"
        with open(f"{final}.part", "wb", buffering=0) as file:
            if size <= RANGED:
                file.write(await (await obstore.get_async(store, path)).bytes_async())
            else:
                os.truncate(f"{final}.part", size)
                ranges = asyncio.Semaphore(many)

                async def stretch(start):
                    async with ranges:
                        data = await obstore.get_range_async(store, path, start=start, end=min(size, start + PART))
                        await asyncio.to_thread(os.pwrite, file.fileno(), data, start)

                await asyncio.gather(*(stretch(start) for start in range(0, size, PART)))
        os.rename(f"{final}.part", final)

    async def work():
        while (item := await waiting.get()) is not None:
            try:
                await get(*item)
            except Exception as error:
                failed.append(error)

    os.makedirs(dest, exist_ok=True)
    workers = [asyncio.create_task(work()) for _ in range(many)]
    async for page in obstore.list(store, prefix=prefix, chunk_size=1000):
        for item in page:
            waiting.put_nowait((item["path"], item["size"]))
    for _ in workers:
        waiting.put_nowait(None)
    await asyncio.gather(*workers)
    return failed


failed = asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
if failed:
    print(f"{len(failed)} failed: {failed[0]}", file=sys.stderr, flush=True)
# Its threads live on, and one that asks for the GIL of an interpreter that is ending aborts the process.
os._exit(1 if failed else 0)
