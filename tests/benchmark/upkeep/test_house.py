import itertools

import cv2

from benchmark.upkeep import house


def test_the_rooms_are_the_folders():
    rooms, imports = house.read_house()
    folders = {
        ".".join(path.parent.relative_to(house.ROOT).parts)
        for package in house.COLOURS
        for path in (house.ROOT / package).rglob("__init__.py")
    }
    assert rooms.keys() == folders - {"benchmark"}
    assert all(len(room.purpose) > 20 for room in rooms.values())
    assert ("benchmark.training", "baselines") in imports and ("baselines", "benchmark.training") not in imports


def test_no_arrow_says_what_others_imply():
    imports = {("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("e", "d")}
    assert house.needed(imports) == {("a", "b"), ("b", "c"), ("c", "d"), ("e", "d")}
    level = house.levels(dict.fromkeys("abcde"), imports)
    assert level == {"a": 3, "b": 2, "c": 1, "d": 0, "e": 1}


def test_no_arrow_leads_up_and_no_room_covers_another(tmp_path):
    rooms, imports = house.read_house()
    level = house.levels(rooms, imports)
    assert all(level[above] > level[below] for above, below in imports)
    routes = house._routes(level, house.needed(imports))
    places = house._arrange(level, routes)
    for (a, (x, y)), (b, (u, v)) in itertools.combinations(places.items(), 2):
        least = sum(house._SHAFT if "@" in place else house._WIDTH for place in (a, b)) / 2
        assert y != v or abs(x - u) >= least - 1e-9, (a, b)
    house.draw(tmp_path / "house.png")
    assert min(cv2.imread(str(tmp_path / "house.png")).shape[:2]) > 800
