"""The AWS CRT's S3 client from Python: it writes temporary files itself, which are renamed; listings by ElementTree."""

import os
import sys
import threading
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientTlsContext, TlsContextOptions
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType, create_default_s3_signing_config

prefix, dest, gbps = sys.argv[1], sys.argv[2], int(sys.argv[3])
url = urlsplit(os.environ["AWS_ENDPOINT_URL"])
tls = None
if url.scheme == "https":
    options = TlsContextOptions()
    options.override_default_trust_store_from_path(None, os.environ["AWS_CA_BUNDLE"])
    tls = ClientTlsContext(options).new_connection_options()
    tls.set_server_name(url.hostname)
client = S3Client(
    region="us-east-1",
    tls_mode=S3RequestTlsMode.ENABLED if tls else S3RequestTlsMode.DISABLED,
    tls_connection_options=tls,
    signing_config=create_default_s3_signing_config(
        region="us-east-1", credential_provider=AwsCredentialsProvider.new_default_chain()
    ),
    throughput_target_gbps=gbps,
)
room = threading.Semaphore(256)
failures = []


def request(path):
    return HttpRequest("GET", path, HttpHeaders([("Host", url.netloc)]))


def pages():
    token = ""
    name = "{http://s3.amazonaws.com/doc/2006-03-01/}"
    while token is not None:
        query = "?list-type=2&prefix=" + quote(prefix, safe="")
        if token:
            query += "&continuation-token=" + quote(token, safe="")
        body = []
        client.make_request(
            type=S3RequestType.DEFAULT,
            operation_name="ListObjectsV2",
            request=request("/bucket" + query),
            on_body=lambda chunk, body=body, **_: body.append(chunk),
        ).finished_future.result()
        page = ET.fromstring(b"".join(body))
        yield [item.findtext(f"{name}Key") for item in page.iter(f"{name}Contents")]
        token = page.findtext(f"{name}NextContinuationToken")


def get(key):
    final = f"{dest}/{key}"

    def done(error, **_):
        if error:
            failures.append(error)
        else:
            os.rename(f"{final}.part", final)
        room.release()

    room.acquire()
    client.make_request(
        type=S3RequestType.GET_OBJECT, request=request(f"/bucket/{key}"), recv_filepath=f"{final}.part", on_done=done
    )


os.makedirs(f"{dest}/{prefix}", exist_ok=True)
for keys in pages():
    for key in keys:
        get(key)
for _ in range(256):
    room.acquire()
sys.exit(str(failures[0]) if failures else 0)
