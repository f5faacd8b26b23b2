"""obstore: GETs into temporary files that are renamed; objects above 32 MiB in ranges of 16 MiB."""

import asyncio
import os
import sys

import obstore
from obstore.store import S3Store

RANGED, PART = 32 << 20, 16 << 20


async def main(prefix, dest, many):
    url = os.environ["AWS_ENDPOINT_URL"]
    options = {"allow_http": True}
    if url.startswith("https"):
        options["allow_invalid_certificates"] = True  # it takes no authority of one's own
    store = S3Store("bucket", endpoint=url, virtual_hosted_style_request=False, client_options=options)
    waiting = asyncio.Queue()

    async def one(path, size):
        final = f"{dest}/{path}"
        part = f"{final}.part"
        with open(part, "wb", buffering=0) as file:
            if size <= RANGED:
                file.write(await (await obstore.get_async(store, path)).bytes_async())
            else:
                os.truncate(part, size)
                ranges = asyncio.Semaphore(many)

                async def stretch(start):
                    async with ranges:
                        data = await obstore.get_range_async(store, path, start=start, end=min(size, start + PART))
                        await asyncio.to_thread(os.pwrite, file.fileno(), data, start)

                await asyncio.gather(*(stretch(start) for start in range(0, size, PART)))
        os.rename(part, final)

    async def work():
        while (item := await waiting.get()) is not None:
            await one(*item)

    os.makedirs(f"{dest}/{prefix}", exist_ok=True)
    workers = [asyncio.create_task(work()) for _ in range(many)]
    async for page in obstore.list(store, prefix=prefix, chunk_size=1000):
        for item in page:
            waiting.put_nowait((item["path"], item["size"]))
    for _ in workers:
        waiting.put_nowait(None)
    await asyncio.gather(*workers)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
# Its threads live on, and one that asks for the GIL of an interpreter that is ending aborts the process: so ended 32 of
# 150 runs of 16 GETs.
os._exit(0)
