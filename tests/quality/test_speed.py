"""The benchmarks with stand-ins for GPUs and servers run, and print their ratios. How fast they are depends on the
machine and on what else it does, so nothing is asked of the figures but that work was done and counted."""

from benchmarks import device, gpu, node, slots


def test_how_busy_devices_and_servers_are_kept() -> None:
    edited = device.measure(images=16, batch_size=4, feed=0.8)
    asked = slots.measure(slots=8, seconds=0.1, rounds=4)
    built = node.measure(images=12, seconds=0.3, slots=2, shard_rows=2)
    print("the edit stage and its device:", edited)  # noqa: T201
    print("the slots of a chat server:", asked)  # noqa: T201
    print("a build and its two servers:", built)  # noqa: T201
    assert 0 < edited["device_busy"] <= 1.01
    assert all(0 < share <= 1.01 for share in asked.values())
    assert built["chat"]["answers"] >= 24
    assert built["editor"]["answers"] >= 12
    assert built["wall_over_busiest"] >= 0.99


def test_the_steps_of_the_gpu_table_run_with_tiny_networks() -> None:
    rows = gpu.measure(gpu.TINY)
    assert [row.split("|")[1].split(",")[0].strip() for row in rows] == ["edit stage"] * 2 + ["captions"] * 2
    assert all(float(row.split("|")[4]) > 0 for row in rows)
