"""archive.py NAME:TAG ROOT OUT USER ENTRYPOINT...: a docker-archive of the tree ROOT, one layer, reproducible."""
import hashlib
import io
import json
import os
import sys
import tarfile

name, root, out, user, *entrypoint = sys.argv[1:]
arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def plain(info):
    info.mtime = 0
    info.uname = info.gname = ""
    return info


layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for entry in sorted(folders + files):
            path = os.path.join(folder, entry)
            tar.add(path, arcname=os.path.relpath(path, root), recursive=False, filter=plain)
layer = layer.getvalue()
config = json.dumps({
    "architecture": arch, "os": "linux", "created": "1970-01-01T00:00:00Z",
    "config": {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Entrypoint": entrypoint, "WorkingDir": "/", "User": user,
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    "history": [{"created": "1970-01-01T00:00:00Z"}],
}, sort_keys=True).encode()
image_id = hashlib.sha256(config).hexdigest()
manifest = json.dumps([{"Config": image_id + ".json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
with tarfile.open(out, "w") as tar:
    for entry, data in ((image_id + ".json", config), ("layer.tar", layer), ("manifest.json", manifest)):
        info = tarfile.TarInfo(entry)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
print("  %s %s %.1f MiB" % (name, image_id[:12], len(layer) / 2**20))
