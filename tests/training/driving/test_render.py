"""The driving world is a function of (seed, time), moves as it says and shows what it says."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legato.errors import InputError
from legato.flow.driving_camera import ground_rows
from legato.training.driving.labels import GROUPS, VOCABULARY, Labels
from legato.training.driving.motion import SpeedProfile, Waves
from legato.training.driving.render import World
from legato.training.driving.road import Road, camera_at
from legato.training.driving.traffic import Traffic

CLEAR = Labels(daytime="day", weather="clear", crowd="sparse", place="city")


def labels(**changed):
    return replace(CLEAR, **changed)


def profile(seed=1, stop=0.3, reverse=0.3):
    return SpeedProfile((seed,), cruise=(4.0, 12.0), stop=stop, reverse=reverse)


def test_a_frame_does_not_depend_on_what_was_asked_before():
    alone, _ = World(5).frame(12.3)
    world = World(5)
    for time in (40.0, 3.0, 12.2999):
        world.frame(time)
    again, _ = world.frame(12.3)
    assert np.array_equal(alone, again)


def test_rendering_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()
    World(2).frame(1.0)
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("place", GROUPS[3])
@pytest.mark.parametrize("weather", GROUPS[1])
def test_every_label_renders_at_any_size(place, weather):
    world = World(3, labels(place=place, weather=weather, daytime="dusk"))
    picture, truth = world.frame(7.0, (48, 96))
    assert picture.shape == (48, 96, 3)
    assert truth.labels.words == ["dusk", weather, "sparse", place]
    assert picture.std() > 8


@pytest.mark.parametrize(("seed", "within"), [(17, 1.5), (2, 3.5), (8, 2.5)])
def test_a_larger_picture_shows_the_same_world_sharper(seed, within):
    """A clear night with stars, a city by day, a forest in snow: reduced, they agree."""
    world = World(seed)
    small, truth = world.frame(3.0 + 3 * seed)
    large, same = world.frame(3.0 + 3 * seed, (128, 256))
    assert same.boxes == truth.boxes
    reduced = cv2.resize(large, (128, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(float) - small).mean() < within
    blurred = cv2.resize(small, (256, 128), interpolation=cv2.INTER_CUBIC)
    detail = [cv2.Laplacian(x.mean(axis=2), cv2.CV_64F).std() for x in (large, blurred)]
    assert detail[0] > 1.3 * detail[1]


def test_a_later_time_is_refused_only_before_the_beginning():
    with pytest.raises(InputError, match="worlds begin at 0"):
        World(1).frame(-0.1)
    assert World(1).frame(5000.0)[0].shape == (64, 128, 3)
    with pytest.raises(InputError, match="seeds count from 0"):
        World(-1)


def test_night_is_darker_than_day_and_snow_whiter_than_grass():
    means = {
        (d, w): World(4, labels(daytime=d, weather=w, place="country")).frame(3.0)[0].mean()
        for d, w in (("day", "clear"), ("night", "clear"), ("day", "snow"))
    }
    assert means["night", "clear"] < 0.4 * means["day", "clear"]
    ground = {
        w: World(4, labels(weather=w, place="country")).frame(3.0)[0][40:, 100:]
        for w in ("clear", "snow")
    }
    saturation = {w: (g.max(axis=2) - g.min(axis=2)).mean() for w, g in ground.items()}
    assert saturation["snow"] < 0.5 * saturation["clear"]


def test_crowdedness_counts_cars():
    counts = {
        crowd: np.mean(
            [len(Traffic(s, Road(s, "highway"), labels(crowd=crowd)).at(10.0)) for s in range(12)]
        )
        for crowd in GROUPS[2]
    }
    assert counts["empty"] < 1.5 < 2.5 * counts["sparse"] < counts["crowded"]


@given(time=st.floats(0, 900), seed=st.integers(0, 50))
@settings(max_examples=40)
def test_distance_is_the_integral_of_speed(time, seed):
    own, h = profile(seed), 1e-3
    slope = (own.distance(time + h) - own.distance(time)) / h
    assert slope == pytest.approx(own.speed(time + h / 2), abs=1e-3)
    change = (own.speed(time + h) - own.speed(time)) / h
    assert change == pytest.approx(own.acceleration(time + h / 2), abs=1e-2)
    assert own.furthest(time) >= own.distance(time)


@given(distance=st.floats(0.5, 800), seed=st.integers(0, 20))
@settings(max_examples=25)
def test_the_time_at_which_a_place_is_reached(distance, seed):
    own = profile(seed, stop=0.2, reverse=0.2)
    assert own.furthest(own.time_at(distance)) == pytest.approx(distance, abs=1e-3)


def test_the_own_car_stops_reverses_and_drives():
    own = World(7).road.own
    speeds = np.array([own.speed(t) for t in np.arange(0, 600, 0.5)])
    assert (speeds < -0.5).any()
    assert (np.abs(speeds) < 0.05).mean() > 0.02
    assert (speeds > 4).mean() > 0.3


def test_the_car_ahead_is_never_run_over_and_never_reverses():
    for seed in range(6):
        road = Road(seed, "country")
        traffic = Traffic(seed, road, labels(crowd="crowded", place="country"))
        times = np.arange(0, 240, 0.5)
        ahead = [traffic._ahead(t) for t in times]
        gaps = [car.s - road.own.distance(t) for car, t in zip(ahead, times, strict=True)]
        assert min(gaps) > 5
        assert min(car.speed for car in ahead) >= 0


def test_streams_are_continuous_and_their_cars_do_not_meet():
    road = Road(3, "highway")
    traffic = Traffic(3, road, labels(crowd="crowded", place="highway"))
    for time in (5.0, 60.0):
        now = {(v.paint, v.kind, v.l): v for v in traffic.at(time)}
        soon = {(v.paint, v.kind, v.l): v for v in traffic.at(time + 0.05)}
        moved = [
            (soon[k].s - v.s) - 0.05 * v.speed * np.cos(v.heading)
            for k, v in now.items()
            if k in soon
        ]
        assert len(moved) > 5
        assert np.median(np.abs(moved)) < 0.02
        lanes = {}
        for v in traffic._streaming(time, road.own.distance(time)):
            lanes.setdefault(round(v.l / 3.5), []).append(v.s)
        gaps = np.concatenate([np.diff(sorted(s)) for s in lanes.values()])
        assert gaps.min() > 5


def test_waves_and_their_integrals_agree():
    waves = Waves.draw(np.random.default_rng(0), 1.0, (10.0, 90.0), 4)
    x, h = np.linspace(0, 200, 50), 1e-4
    for order in (0, 1, 2):
        slope = (waves.at(x + h, order) - waves.at(x - h, order)) / (2 * h)
        np.testing.assert_allclose(slope, waves.at(x, order - 1), atol=1e-5)


def test_the_camera_agrees_with_the_flat_road_of_the_measurements():
    road = Road(1, "highway")
    camera = camera_at(road, 0.0, 64, 128)
    z = np.array([5.0, 12.0, 30.0])
    points = np.stack([camera.s + z, np.zeros(3), -camera.rise(z)], axis=1)
    rows = camera.project(points)[:, 1] - camera.horizon
    np.testing.assert_allclose(rows, ground_rows(z, 64, 128) - 0.42 * 64, rtol=1e-6)


def test_boxes_hold_the_cars():
    world = World(11, labels(crowd="crowded", place="highway"))
    for time in (2.0, 9.0):
        picture, truth = world.frame(time)
        world_without = World(11, labels(crowd="crowded", place="highway"))
        world_without.traffic.at = lambda time: []
        changed = np.abs(picture.astype(int) - world_without.frame(time)[0]).max(axis=2) > 40
        inside = np.zeros_like(changed)
        for b in truth.boxes:
            rows = slice(int(64 * b.top) - 1, int(64 * b.bottom) + 3)
            inside[
                max(rows.start, 0) : rows.stop,
                max(int(128 * b.left) - 2, 0) : int(128 * b.right) + 3,
            ] = True
        assert len(truth.boxes) > 2
        assert changed[inside].mean() > 0.2
        assert changed[~inside].mean() < 0.02


def test_neighbouring_times_look_alike_and_motion_shows():
    world = World(11, labels(place="country"))
    moving = max(np.arange(0, 60, 0.5), key=world.road.own.speed)
    a, b, c = (world.frame(moving + d)[0].astype(float) for d in (0.0, 0.01, 0.5))
    assert np.abs(a - b).mean() < 4
    assert np.abs(a - c).mean() > 1.5 * np.abs(a - b).mean()


def test_words_are_distinct():
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 14
