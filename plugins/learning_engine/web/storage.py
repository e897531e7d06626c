"""`GET /storage`: the contents of the bucket, by area and by version."""

from collections import Counter

from fastapi import Depends

from learning_engine.registry import manifest
from learning_engine.web.adapters import published
from learning_engine.web.auth import reader
from learning_engine.web.backend import OpenResources
from learning_engine.web.problems import responses
from learning_engine.web.response_models import Storage, StorageArea
from learning_engine.web.store_threads import Router

LARGEST = 10

router = Router(tags=["storage"], dependencies=[Depends(reader)], responses=responses(401, 503))


@router.get("/storage")
def storage(resources: OpenResources) -> Storage:
    """Objects and bytes below `store.prefix`."""
    objects, sizes = Counter[str](), Counter[str]()
    for stored in resources.store.list():
        area, _, rest = stored.key.partition("/")
        names = [area]
        if stored.key.startswith(manifest.ADAPTERS):
            names.append(manifest.ADAPTERS + rest.partition("/")[0])
        for name in names:
            objects[name] += 1
            sizes[name] += stored.size
    areas = [StorageArea(area=name, objects=objects[name], bytes=sizes[name]) for name in sorted(sizes)]
    whole = [area for area in areas if "/" not in area.area]
    of_versions = sorted((area for area in areas if "/" in area.area), key=lambda area: -area.bytes)
    listed, _ = published(resources)
    return Storage(
        bucket=resources.store.bucket,
        prefix=resources.store.prefix,
        objects=sum(area.objects for area in whole),
        bytes=sum(area.bytes for area in whole),
        areas=whole,
        versions=len(listed),
        accepted=sum(one.version.accepted for one in listed),
        rejected=sum(not one.version.accepted for one in listed),
        revoked=sum(manifest.REVOKED in one.names for one in listed),
        largest=of_versions[:LARGEST],
    )
