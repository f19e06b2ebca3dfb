"""Which episodes a gallery shows."""

from fssplat.report.gallery.choice import EpisodePlace, chosen


def known(*ious: tuple[float, float]) -> list[EpisodePlace]:
    return [
        EpisodePlace("a", "b", 0, index, f"image{index}", *pair) for index, pair in enumerate(ious)
    ]


def test_each_reason_has_its_episodes_and_none_is_shown_twice() -> None:
    episodes = known(
        (0.9, 0.1),  # + 0.8
        (0.5, 0.4),  # + 0.1
        (0.2, 0.9),  # - 0.7
        (0.6, 0.6),
        (0.0, 0.1),  # - 0.1, the lowest together
        (0.7, 0.4),  # + 0.3
        (0.4, 0.6),  # - 0.2
    )
    assert [(reason, one.index) for reason, one in chosen(episodes, 4)] == [
        ("largest gain", 0), ("largest loss", 2), ("median", 3), ("worst", 4),
    ]  # fmt: skip
    assert [one.index for _, one in chosen(episodes, 6)] == [0, 5, 2, 6, 3, 4]
    every = chosen(episodes, 100)
    assert sorted(one.index for _, one in every) == list(range(7))


def test_a_method_that_never_loses_has_no_loss_to_show() -> None:
    reasons = [reason for reason, _ in chosen(known((0.5, 0.1), (0.6, 0.6), (0.7, 0.7)), 12)]
    assert "largest loss" not in reasons
    assert chosen([], 12) == []


def test_a_query_is_shown_again_only_if_no_other_is_left() -> None:
    pairs = {"a": (0.9, 0.1), "b": (0.8, 0.1), "c": (0.7, 0.1)}
    episodes = [
        EpisodePlace("x", "y", 0, index, query, *pairs[query]) for index, query in enumerate("aabc")
    ]
    assert [one.index for reason, one in chosen(episodes, 8) if reason == "largest gain"] == [1, 2]
    assert len(chosen(episodes, 100)) == 4
