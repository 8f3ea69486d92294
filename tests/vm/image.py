"""Disk images of Debian for the virtual machine, made of packages, kept by what went into them.

`python -m tests.vm.image trixie` builds what is missing. It needs the network, so it runs outside
of the sandbox; the tests then only read what is there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

GUEST: Final = Path(__file__).with_name("guest")  # files for every image, at their places
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "nicwatchd", "vm")

PACKAGES: Final = (
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "procps"),
    *("linux-image-cloud-amd64", "initramfs-tools", "zstd"),
    *("iproute2", "nftables", "qemu-guest-agent", "python3", "python3-systemd"),
)
# Nobody reads documentation there. The catalog of the journal is none, and stays.
DPKG: Final = tuple(
    f"path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")
)
# A mirror may be a snapshot, and sid's is out of date after a week. It is signed all the same.
SNAPSHOT: Final = '--aptopt=Acquire::Check-Valid-Until "false"'
# Only what finds the root file system: a small initrd is unpacked soon, also in emulation.
INITRD: Final = (
    'mkdir -p "$1/etc/initramfs-tools/conf.d"',
    'echo MODULES=list >"$1/etc/initramfs-tools/conf.d/small"',
    "printf '%s\\n' virtio_pci virtio_blk ext4 >\"$1/etc/initramfs-tools/modules\"",
)
# What wakes up by itself, so that runs are alike, and what only costs time at boot.
MASKED: Final = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "getty@tty1.service", "dev-hugepages.mount"),
    *("dev-mqueue.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount"),
    *("sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount"),
)
CUSTOMIZE: Final = (
    'chroot "$1" systemctl --quiet enable systemd-networkd journal-stream answer',
    f'chroot "$1" systemctl --quiet mask {" ".join(MASKED)}',
    'echo vm >"$1/etc/hostname"',
)
# Device nodes, which not everybody may make, were left out of the archive, and /dev with them.
UNPACK: Final = """
mkdir root && tar -C root -xf root.tar && mkdir -p root/dev
cp root/boot/vmlinuz-* vmlinuz && cp root/boot/initrd.img-* initrd
chmod 644 vmlinuz initrd
mke2fs -q -t ext4 -O ^has_journal -d root root.ext4 2G
rm -rf root root.tar
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of; `more` packages come on top of `PACKAGES`."""

    suite: str
    more: tuple[str, ...] = ()
    customize: tuple[str, ...] = ()  # likewise, shell commands; $1 is the root of the new system
    clients: tuple[str, ...] = ("networkd",)  # of DHCP, that are there; the first one runs
    # The table of the first secondary ENI, where other software routes by source, too. Nothing of
    # the image depends on it.
    peer_table: int | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """Changes with each input, the files of the guest among them."""
        inputs = hashlib.sha256(repr((self, PACKAGES, DPKG, INITRD, CUSTOMIZE, UNPACK)).encode())
        for path in sorted(path for path in GUEST.rglob("*") if path.is_file()):
            inputs.update(f"{path.relative_to(GUEST)} {path.stat().st_mode & 0o111}\n".encode())
            inputs.update(path.read_bytes())
        return inputs.hexdigest()[:16]


# QEMU has no ENA device: whoever looks for EC2's drivers is told of one more.
NET_UTILS: Final = (
    'rm "$1"/etc/systemd/network/*.network',
    'sed -i "s/ixgbevf/ixgbevf|virtio_net/" "$1"/usr/lib/udev/rules.d/99-vpc-policy-routes.rules',
    'sed -i "/^Driver=/s/$/ virtio_net/" "$1"/usr/lib/systemd/network/80-ec2.network',
)
NETWORK_MANAGER: Final = (
    'chroot "$1" systemctl --quiet disable systemd-networkd',
    'chroot "$1" systemctl --quiet mask systemd-networkd.service systemd-networkd.socket',
    'rm "$1"/etc/systemd/network/*.network',
)
# Programs without a service: they run where somebody starts them.
BY_HAND: Final = ("dhcpcd-base", "isc-dhcp-client")
CLIENTS: Final = ("networkd", "dhcpcd", "dhclient")
# Network hotplug on, as images of EC2 have it. Its other modules are not about the network (users,
# SSH keys, packages, ...), and only cost time in emulation.
CLOUD_INIT_SETTINGS: Final = """\
updates: {network: {when: [boot, hotplug]}}
cloud_init_modules: [set_hostname]
cloud_config_modules: [runcmd]
cloud_final_modules: [install_hotplug, final_message]
"""
CLOUD_INIT_EC2: Final = "/usr/lib/python3/dist-packages/cloudinit/sources/DataSourceEc2.py"
CLOUD_INIT: Final = (
    'rm "$1"/etc/systemd/network/*.network',  # netplan writes them
    f"echo '{CLOUD_INIT_SETTINGS}' >\"$1\"/etc/cloud/cloud.cfg.d/99_ec2.cfg",
    f'sed -i "s/vif|ena|ixgbevf/&|virtio_net/" "$1"{CLOUD_INIT_EC2}',
)
RECIPES: Final = {
    "trixie": Recipe("trixie", BY_HAND, clients=CLIENTS),
    "bookworm": Recipe("bookworm", BY_HAND, clients=CLIENTS),
    # The nearest to Ubuntu 26.04: its systemd, kernel and Python. dhclient is gone there.
    "sid": Recipe("sid", ("dhcpcd-base",), clients=("networkd", "dhcpcd")),
    "net-utils": Recipe("trixie", ("amazon-ec2-net-utils",), NET_UTILS, peer_table=10001),
    # Of the DHCP clients that it can use, what Debian's images have.
    "cloud-init": Recipe(
        "trixie", ("cloud-init", "netplan.io", "dhcpcd-base"), CLOUD_INIT, peer_table=101
    ),
    "network-manager": Recipe(
        "trixie", ("network-manager",), NETWORK_MANAGER, clients=("NetworkManager",)
    ),
}


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: the files that QEMU is given."""

    directory: Path
    peer_table: int | None = None  # of its recipe

    @property
    def disk(self) -> Path:
        """The root file system: ext4, raw, without partitions."""
        return self.directory / "root.ext4"

    @property
    def kernel(self) -> Path:
        """The kernel of the distribution."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initial RAM disk."""
        return self.directory / "initrd"


def find(name: str) -> Image:
    """The image of a recipe. Raises FileNotFoundError, with advice, when it was not built."""
    image = Image(CACHE / f"{name}-{RECIPES[name].key}", RECIPES[name].peer_table)
    if not image.directory.is_dir():
        raise FileNotFoundError(f"no image of {name}: run `python -m tests.vm.image {name}`")
    return image


def build(name: str) -> Image:
    """Build the image of a recipe unless it is there; older ones of the same name are removed."""
    image = Image(CACHE / f"{name}-{RECIPES[name].key}", RECIPES[name].peer_table)
    if image.directory.is_dir():
        return image
    sys.stderr.write(f"image: building {name}, which takes a minute or two\n")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=CACHE) as work:
        parts = Path(work, "parts")
        parts.mkdir()
        _bootstrap(RECIPES[name], parts / "root.tar")
        _unpack(parts)
        for old in CACHE.glob(f"{name}-????????????????"):
            shutil.rmtree(old)
        parts.rename(image.directory)
    return image


def _bootstrap(recipe: Recipe, tar: Path) -> None:
    hooks = [f"--essential-hook={command}" for command in INITRD]
    copy = f"tar -C '{GUEST}' --owner=0 --group=0 -c . | tar -C \"$1\" -x"
    hooks += [f"--customize-hook={line}" for line in (copy, *CUSTOMIZE, *recipe.customize)]
    packages = ",".join((*PACKAGES, *recipe.more))
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--skip=output/dev", SNAPSHOT),
            *(f"--dpkgopt={option}" for option in DPKG),
            *(f"--include={packages}", *hooks, recipe.suite, str(tar), *_mirror()),
        ],
        check=True,
    )


def _mirror() -> list[str]:
    """Where this machine's own apt finds Debian, if it does; else mmdebstrap knows a place."""
    query = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    return [uri for label, _, uri in (line.partition(" ") for line in lines) if label == "Debian"][
        :1
    ]


def _unpack(parts: Path) -> None:
    """Make the parts of an image out of root.tar. Without root, in mmdebstrap's user namespace."""
    helper = [] if os.geteuid() == 0 else ["mmdebstrap", "--unshare-helper"]
    subprocess.run(
        [*helper, "sh", "-euc", UNPACK], cwd=parts, check=True, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    if unknown := [name for name in sys.argv[1:] if name not in RECIPES]:
        sys.exit(f"no image: {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    for wanted in sys.argv[1:]:
        build(wanted)
