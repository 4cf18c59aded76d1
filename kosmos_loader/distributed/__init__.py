"""Pages drawn and read on the machines of a Ray cluster; one process, the driver, writes.

Ray Data carries files to pages (drawn in tasks) and pages to readings (by actors that hold the
reader). Readings come back in any order and without pixels. Each is committed to the journal of
the store as it comes; when all pages of a file are there, the ordinary run composes, chunks and
embeds them from the journal. So ids, chunks and readings are those of a run on one machine, and a
driver that was killed goes on as such a run does.

A page that ends the process that reads it does not end the actor, which reads in a process of its
own. What ends actors comes from outside, and Ray starts them again; how often a page was in hand
then is counted here (`desk`), since Ray would try for ever.
"""

from __future__ import annotations

from kosmos_loader.distributed.cluster import RayCluster
from kosmos_loader.distributed.sending import RemoteReader

__all__ = ["RayCluster", "RemoteReader"]
