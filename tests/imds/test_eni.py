"""The metadata of an interface, poll by poll, from a running server."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from nicwatchd.core.metadata import ABSENT, ENI_KEYS, EniMetadata, FamilyMetadata, Unknown, Value
from nicwatchd.core.polling import Depth
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.imds.eni import EniReader
from nicwatchd.imds.parse import LEAVES
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.script import KEYS, EniScript, Scenario

MAC = "02:00:00:00:00:02"
V6 = {"ipv6s", "subnet-ipv6-cidr-blocks"}
ADDRESS6 = (ip_address("2001:db8:0:2::10"),)


@pytest.fixture
def reader(client: ImdsClient) -> EniReader:
    return EniReader(client, MAC)


async def _until_known(reader: EniReader, polls: int) -> EniMetadata:
    """Poll as many times as it may take at most; the last answer."""
    for _ in range(polls):
        metadata = await reader.poll(depth=Depth.AWAITED)
        if isinstance(metadata.v6.addresses, Value) and isinstance(metadata.v6.cidrs, Value):
            break
    return metadata


async def test_the_whole_reading(reader: EniReader) -> None:
    metadata = await reader.poll(depth=Depth.EVERYTHING)
    assert isinstance(metadata.directory, Value)
    assert LEAVES.keys() & metadata.directory.value == LEAVES.keys() - {
        "network-card", "ipv4-prefix", "ipv6-prefix"
    }  # fmt: skip
    assert metadata == EniMetadata(
        directory=metadata.directory,
        mac=Value(MAC),
        interface_id=Value("eni-00000020000000002"),
        subnet_id=Value("subnet-0123456789abcdef0"),
        device_number=Value(1),
        network_card=ABSENT,
        v4=FamilyMetadata(
            addresses=Value((ip_address("10.0.2.10"),)),
            prefixes=ABSENT,
            cidrs=Value((ip_network("10.0.2.0/24"),)),
        ),
        v6=FamilyMetadata(
            addresses=Value(ADDRESS6),
            prefixes=ABSENT,
            cidrs=Value((ip_network("2001:db8:0:2::/64"),)),
        ),
    )


async def test_what_did_not_change_is_the_same_object(
    reader: EniReader, server: ImdsServer
) -> None:
    """Fifty addresses are parsed once, and nobody has to compare them."""
    before = await reader.poll(depth=Depth.EVERYTHING)
    server.step("eth1", hide={"ipv6s"})
    assert (await reader.poll(depth=Depth.EVERYTHING)).v6.addresses == ABSENT
    server.step("eth1", complete=True)
    again = await reader.poll(depth=Depth.EVERYTHING)
    assert again.v6.addresses is before.v6.addresses
    server.step("eth1", texts={"ipv6s": "2001:db8:0:2::11"})
    changed = await reader.poll(depth=Depth.EVERYTHING)
    assert changed.v6.addresses == Value((ip_address("2001:db8:0:2::11"),))
    assert changed.v4.addresses is before.v4.addresses


async def test_unlisted_costs_one_request_per_poll(
    reader: EniReader, client: ImdsClient, server: ImdsServer
) -> None:
    server.step("eth1", listed=False)
    await client.primary_mac()
    before = client.requests
    for _ in range(8):
        metadata = await reader.poll(depth=Depth.AWAITED)
        assert metadata.directory == ABSENT
        assert {metadata.answer(key) for key in ENI_KEYS} == {ABSENT}
    assert client.requests - before == 8


@pytest.mark.parametrize("how", ["hide", "lag", "empty"])
async def test_ipv6_is_known_in_the_poll_after_it_is_complete(
    how: str, reader: EniReader, server: ImdsServer
) -> None:
    if how == "hide":
        server.step("eth1", hide=V6)
    elif how == "lag":
        server.step("eth1", lag=V6)
    else:
        server.step("eth1", texts=dict.fromkeys(V6, ""))
    for _ in range(10):
        metadata = await reader.poll(depth=Depth.AWAITED)
    assert not isinstance(metadata.v6.addresses, Value)
    assert isinstance(metadata.v4.addresses, Value)
    server.step("eth1", complete=True)
    metadata = await reader.poll(depth=Depth.AWAITED)
    assert metadata.v6.addresses == Value(ADDRESS6)
    assert metadata.v6.cidrs == Value((ip_network("2001:db8:0:2::/64"),))


async def test_ipv6_in_parts(reader: EniReader, server: ImdsServer) -> None:
    server.step("eth1", hide=V6)
    await reader.poll(depth=Depth.AWAITED)
    server.step("eth1", hide={"ipv6s"}, lag={"subnet-ipv6-cidr-blocks"})
    metadata = await reader.poll(depth=Depth.AWAITED)
    assert metadata.v6.cidrs == Unknown("subnet-ipv6-cidr-blocks: listed, but 404 (IMDS lags)")
    server.step("eth1", hide={"ipv6s"}, lag=set())
    assert isinstance((await reader.poll(depth=Depth.AWAITED)).v6.cidrs, Value)
    server.step("eth1", hide=set())
    assert isinstance((await reader.poll(depth=Depth.AWAITED)).v6.addresses, Value)


async def test_a_list_that_grows_is_seen_within_a_turn(
    reader: EniReader, server: ImdsServer
) -> None:
    await reader.poll(depth=Depth.AWAITED)
    server.step("eth1", texts={"ipv6s": "2001:db8:0:2::10\n2001:db8:0:2::11"})
    answers = [(await reader.poll(depth=Depth.AWAITED)).v6.addresses for _ in range(6)]
    assert answers[-1] == Value((*ADDRESS6, ip_address("2001:db8:0:2::11")))


async def test_a_prefix_that_is_delegated_later_is_seen_within_a_turn(
    reader: EniReader, server: ImdsServer
) -> None:
    await reader.poll(depth=Depth.AWAITED)
    server.step("eth1", texts={"ipv6-prefix": "2001:db8:0:2:1::/80"})
    answers = [(await reader.poll(depth=Depth.AWAITED)).v6.prefixes for _ in range(6)]
    assert answers[-1] == Value((ip_network("2001:db8:0:2:1::/80"),))


async def test_an_unassigned_address_is_absent_not_lagging(
    reader: EniReader, server: ImdsServer
) -> None:
    await reader.poll(depth=Depth.AWAITED)
    server.step("eth1", hide={"ipv6s"})
    answers = [(await reader.poll(depth=Depth.AWAITED)).v6.addresses for _ in range(6)]
    assert answers[-1] == ABSENT
    assert not any(isinstance(answer, Unknown) for answer in answers)


async def test_steady_sweeps_cost_8_requests_at_most(
    reader: EniReader, client: ImdsClient, server: ImdsServer
) -> None:
    server.step(
        "eth1",
        texts={"ipv4-prefix": "10.0.2.16/28", "ipv6-prefix": "2001:db8:0:2:1::/80"},
    )
    await reader.poll(depth=Depth.EVERYTHING)
    for _ in range(5):
        before = client.requests
        await reader.poll(depth=Depth.EVERYTHING)
        assert client.requests - before <= 8


async def test_detached_but_still_listed_is_unknown(reader: EniReader, server: ImdsServer) -> None:
    await reader.poll(depth=Depth.EVERYTHING)
    server.step("eth1", lag=set(KEYS))
    metadata = await reader.poll(depth=Depth.EVERYTHING)
    assert isinstance(metadata.directory, Value)
    assert isinstance(metadata.v4.addresses, Unknown)
    assert isinstance(metadata.v6.cidrs, Unknown)


async def test_unplugged_is_absent_and_plugged_again_is_read_anew(
    reader: EniReader, server: ImdsServer
) -> None:
    await reader.poll(depth=Depth.EVERYTHING)
    server.unplug("eth1")
    assert (await reader.poll(depth=Depth.EVERYTHING)).directory == ABSENT
    assert (await reader.poll(depth=Depth.AWAITED)).mac == ABSENT
    server.plug("eth1")
    metadata = await reader.poll(depth=Depth.AWAITED)
    assert metadata.mac == Value(MAC)
    assert metadata.v6.addresses == Value(ADDRESS6)


async def test_a_wrong_mac_is_told_and_asked_again_until_it_is_right(
    reader: EniReader, server: ImdsServer
) -> None:
    server.step("eth1", texts={"mac": "02:ff:ff:ff:ff:ff"})
    for _ in range(3):
        assert (await reader.poll(depth=Depth.AWAITED)).mac == Value("02:ff:ff:ff:ff:ff")
    server.step("eth1", complete=True)
    assert (await reader.poll(depth=Depth.AWAITED)).mac == Value(MAC)
    server.log.clear()
    for _ in range(20):
        await reader.poll(depth=Depth.AWAITED)
    assert not any(request.path.endswith("/mac") for request in server.log)


async def test_part_of_a_value_is_refused(reader: EniReader, server: ImdsServer) -> None:
    server.step("eth1", texts={"local-ipv4s": "10.0.2.10\n2001:db8::1\n10.0.2.11"})
    metadata = await reader.poll(depth=Depth.EVERYTHING)
    good = (ip_address("10.0.2.10"), ip_address("10.0.2.11"))
    assert metadata.v4.addresses == Value(good, whole=False)
    assert metadata.refused == ("local-ipv4s: '2001:db8::1': Input is not a valid IPv4 interface",)
    server.step("eth1", complete=True)
    assert (await reader.poll(depth=Depth.EVERYTHING)).refused == ()


async def test_odd_spellings() -> None:
    odd = EniScript(
        name="eth1",
        mac="02:00:00:00:00:ab",
        directory_case="upper",
        ipv4=("10.0.2.10/24",),
        ipv6=("2001:db8:0:2::10/64",),
        subnet_ipv4="10.0.2.0/24",
        subnet_ipv6=("2001:db8:0:2:0:0:0:0/64", "2001:db8:0:3::/64"),
    )
    server = ImdsServer(Scenario(mac="02:00:00:00:00:01", enis=(odd,)))
    await server.start(("127.0.0.1", 0))
    server.plug("eth1")
    async with ImdsClient(ImdsOptions(server.endpoints)) as client:
        reader = EniReader(client, "02:00:00:00:00:ab")
        metadata = await reader.poll(depth=Depth.AWAITED)
        before = client.requests
        await reader.poll(depth=Depth.AWAITED)
        assert client.requests - before <= 2  # the list of MACs is not asked for again
    await server.stop()
    assert metadata.mac == Value("02:00:00:00:00:ab")
    assert metadata.v4.addresses == Value((ip_address("10.0.2.10"),))
    assert metadata.v6.addresses == Value(ADDRESS6)
    assert metadata.v6.cidrs == Value(
        (ip_network("2001:db8:0:2::/64"), ip_network("2001:db8:0:3::/64"))
    )


async def test_the_race_as_scripted(reader: EniReader, server: ImdsServer) -> None:
    """The MAC, then IPv4, then IPv6: each is known in the poll that follows it."""
    server.step("eth1", listed=False)
    assert (await reader.poll(depth=Depth.AWAITED)).directory == ABSENT
    server.step("eth1", listed=True, hide=V6, texts={"device-number": "0"})
    metadata = await reader.poll(depth=Depth.AWAITED)
    assert isinstance(metadata.v4.addresses, Value)
    assert (await reader.poll(depth=Depth.EVERYTHING)).device_number == Value(0)
    server.step("eth1", complete=True)
    metadata = await _until_known(reader, 1)
    assert metadata.v6.addresses == Value(ADDRESS6)
