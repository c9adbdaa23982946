"""Scenes with exact boxes, masks and captions: GenEval's six prompt kinds, and signs with a quoted word.

A scene is a pure function of a numpy generator and a World. The grammar of the captions is GenEval's own.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from star_bench.evaluators.geneval.prompts import COLORS, RELATIONS, TAGS, Vocabulary, counting_row, row
from star_bench.miniature.sprites import OUTLINE, letter, sprite

WORD_TAG = "words"
KINDS: tuple[str, ...] = (*TAGS, WORD_TAG)

WORDS: tuple[str, ...] = tuple(
    """
    ACE ACORN ADD AIR ALLEY AMBER ANGEL ARCH ARMY ART ASH BACON BAKE BALL BAND BANK BARN BASIC BATH BEACH BEAN
    BEAR BELL BENCH BERRY BIKE BIRD BLOCK BLOOM BOARD BOLD BONE BOOK BOOT BOSS BRAVE BREAD BRICK BRIDGE BROOM
    BRUSH CABIN CAFE CAKE CALM CAMP CANDY CAPE CARD CASTLE CAT CAVE CEDAR CHALK CHEESE CHESS CINEMA CITY CLAY
    CLIFF CLOUD CLUB COACH COAL COAST COAT CODE COFFEE COIN COLD CORAL CORN COTTON CRAB CRANE CREEK CROWN CUBE
    DAIRY DANCE DAWN DEER DELTA DESK DIAL DINER DOCK DOG DOOR DOVE DRAMA DREAM DRUM DUCK DUST EAGLE EAST ECHO
    EDGE ELM EMBER ENTER EXIT FABLE FAIR FALCON FARM FAST FERN FIELD FILM FIRE FISH FLAG FLAME FLOWER FOREST
    FORK FOX FRESH FROG FRUIT GALAXY GARDEN GATE GHOST GIANT GIFT GLASS GLOBE GOLD GOLF GRAPE GRASS GREET GUIDE
    HARBOR HAT HAWK HAZEL HEART HELLO HILL HOME HONEY HOPE HORSE HOTEL ICE INK IRON ISLAND IVORY IVY JADE JAZZ
    JELLY JOKER JUICE JUNGLE KEY KING KOALA LAKE LAMP LASER LATTE LEAF LEMON LIGHT LILY LIME LION LOBBY LOCK
    LOFT LUCKY LUNCH MAGIC MAIN MANGO MAPLE MARKET MELON METRO MILK MINT MODEL MOON MOTEL MOUSE MUSIC NAVY NEST
    NIGHT NOBLE NORTH NOVA OAK OASIS OCEAN OLIVE ONION OPEN OPERA ORBIT OTTER OWL PALACE PANDA PAPER PARK PASTA
    PEACH PEARL PENCIL PIANO PILOT PINE PIXEL PIZZA PLANET PLAZA PLUM POET POLAR POND PORT POTATO PRISM PUPPY
    QUEEN QUIET RABBIT RADIO RAIN RANCH RAVEN RIVER ROBOT ROCKET ROSE ROYAL RUBY SAFE SAIL SALAD SALT SAND
    SCHOOL SHARK SHELL SHIP SHOP SILVER SKY SLOW SMILE SNOW SODA SOLAR SOUP SOUTH SPACE SPRING STAR STONE STOP
    STORM SUGAR SUMMER SUNNY SWAN TAXI TEA TEMPLE TIGER TOAST TOWER TOY TRAIN TULIP TURTLE UNITY URBAN VALLEY
    VELVET VIDEO VINE VIOLET VIOLIN VISTA WAGON WALNUT WATER WAVE WEST WHALE WILD WINDOW WINE WINTER WOLF WOOD
    YARD YOGA ZEBRA ZEN ZERO ZONE ZOO
    """.split()
)
"""Everyday words of three to six capitals (chosen here)."""


def is_held_out(word: str) -> bool:
    """A fixed quarter of all strings is kept out of every training sign, for the OCR suite."""
    return zlib.crc32(word.encode()) % 4 == 0


HELD_OUT_WORDS: tuple[str, ...] = tuple(w for w in WORDS if is_held_out(w))
TRAINING_WORDS: tuple[str, ...] = tuple(w for w in WORDS if not is_held_out(w))

BACKGROUNDS: tuple[tuple[int, int, int], ...] = ((196, 222, 230), (226, 216, 196), (206, 226, 200), (220, 208, 226))
"""Pastels, none of which is one of the ten colours."""


@dataclass(frozen=True)
class World:
    """The vocabulary and geometry that a miniature is trained on.

    `object_sizes` are (smallest, largest) side of an object's square in pixels; `cells` places objects in the
    2 x 2 grid of half-image cells, aligned to the generator's token grid, instead of anywhere.
    """

    name: str
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    backgrounds: int
    object_sizes: tuple[int, int]
    cells: bool
    size: int = 64

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.classes, self.colors)


SMALL = World(
    name="small",
    classes=("car", "umbrella", "kite", "cup", "banana", "apple", "chair", "clock"),
    colors=("red", "yellow", "green", "blue", "purple", "pink", "black", "white"),
    backgrounds=2,
    object_sizes=(27, 27),
    cells=True,
)
"""Small enough to be learnt on two CPU cores; its classes stand in COCO's order."""

LARGE = World(
    name="large",
    classes=("car", "bus", "boat", "umbrella", "kite", "bottle", "cup", "banana", "apple", "chair", "tv", "clock"),
    colors=COLORS,
    backgrounds=4,
    object_sizes=(19, 27),
    cells=False,
)
"""GenEval's ten colours, twelve classes, free placement: for a GPU."""

WORLDS: dict[str, World] = {w.name: w for w in (SMALL, LARGE)}


@dataclass(frozen=True)
class SceneObject:
    """box is (x1, y1, x2, y2) in pixels, exclusive right and bottom; mask is (H, W) bool, what can be seen of it."""

    name: str
    color: str
    box: tuple[int, int, int, int]
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """image is (H, W, 3) uint8 RGB. `metadata` is the GenEval row that the scene fulfils; a sign has
    {"tag": "words", "target", "prompt"}. `caption` may say more than the metadata's prompt (colours)."""

    image: np.ndarray
    objects: tuple[SceneObject, ...]
    caption: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Placed:
    """One object to draw: class, colour, square side and top-left corner."""

    name: str
    color: str
    side: int
    x: int
    y: int


def _blend(image: np.ndarray, patch: np.ndarray, x: int, y: int) -> None:
    h, w = patch.shape[:2]
    alpha = patch[..., 3:]
    region = image[y : y + h, x : x + w]
    region += alpha * (patch[..., :3] - region)


def background(world: World, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32: an even pastel."""
    shade = BACKGROUNDS[rng.integers(world.backgrounds)]
    return np.broadcast_to(np.asarray(shade, np.float32), (world.size, world.size, 3)).copy()


def draw_objects(image: np.ndarray, placed: list[Placed]) -> tuple[SceneObject, ...]:
    """Draws in order onto `image` (float32, in place); a later object hides what it covers."""
    masks: list[np.ndarray] = []
    for item in placed:
        patch = sprite(item.name, item.color, item.side)
        mask = np.zeros(image.shape[:2], bool)
        mask[item.y : item.y + item.side, item.x : item.x + item.side] = patch[..., 3] > 0.5
        _blend(image, patch, item.x, item.y)
        masks = [m & ~mask for m in masks] + [mask]
    out = []
    for item, mask in zip(placed, masks, strict=True):
        ys, xs = np.nonzero(mask)
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        out.append(SceneObject(item.name, item.color, box, mask))
    return tuple(out)


def _in_cells(world: World, rng: np.random.Generator, cells: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(side, x, y) for each cell of the 2 x 2 grid, nearly centred in it."""
    half, side = world.size // 2, world.object_sizes[0]
    room = half - side
    jitter = rng.integers(0, room + 1, size=(len(cells), 2))
    return [(side, cx * half + int(dx), cy * half + int(dy)) for (cx, cy), (dx, dy) in zip(cells, jitter, strict=True)]


def _free(world: World, rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """(side, x, y) of `count` squares that do not overlap, anywhere in the picture."""
    low, high = world.object_sizes
    while True:
        spots: list[tuple[int, int, int]] = []
        for _ in range(60):
            side = int(rng.integers(low, high + 1))
            x, y = (int(v) for v in rng.integers(1, world.size - side, size=2))
            if all(x >= u + s or u >= x + side or y >= v + s or v >= y + side for s, u, v in spots):
                spots.append((side, x, y))
            if len(spots) == count:
                return spots


def place(world: World, rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    """(side, x, y) of `count` objects without overlap (count 1 to 4)."""
    if not world.cells:
        return _free(world, rng, count)
    grid = [(0, 0), (1, 0), (0, 1), (1, 1)]
    return _in_cells(world, rng, [grid[i] for i in rng.permutation(4)[:count]])


def place_related(world: World, rng: np.random.Generator, relation: str) -> list[tuple[int, int, int]]:
    """Two spots, the second in `relation` to the first along that axis and level with it on the other."""
    horizontal = relation in ("left of", "right of")
    if world.cells:
        lane = int(rng.integers(2))
        first, second = ((0, lane), (1, lane)) if horizontal else ((lane, 0), (lane, 1))
        spots = _in_cells(world, rng, [first, second])
    else:
        low, high = world.object_sizes
        sides = [int(s) for s in rng.integers(low, high + 1, size=2)]
        gap = int(rng.integers(2, world.size - sum(sides) - 1))
        start = int(rng.integers(1, world.size - sum(sides) - gap))
        lane = int(rng.integers(4, world.size - high - 4))
        spots = []
        for side, along in zip(sides, (start, start + sides[0] + gap), strict=True):
            across = lane + int(rng.integers(-3, 4))
            spots.append((side, along, across) if horizontal else (side, across, along))
    return spots[::-1] if relation in ("left of", "above") else spots


SIGN_PITCH = (8, 16)
"""Letter cell (width, height) in pixels: whole tokens of the generator (8 px) are the easiest to learn."""


def draw_sign(image: np.ndarray, text: str) -> None:
    """A white board across the picture with the text in a row of fixed-pitch capitals (at most 7)."""
    size = image.shape[0]
    wide, high = SIGN_PITCH
    top = (size - high) // 2
    image[top - 6 : top + high + 6, 1 : size - 1] = OUTLINE
    image[top - 4 : top + high + 4, 3 : size - 3] = (248, 248, 246)
    left = (size // wide - len(text)) // 2 * wide
    for i, char in enumerate(text):
        _blend(image, letter(char, wide, high), left + i * wide, top)


def blank_sign(scene: Scene) -> Scene:
    """The same sign with nothing on it; the caption still says what should be there."""
    image = scene.image.astype(np.float32)
    draw_sign(image, "")
    return replace(scene, image=_finish(image))


def sign_row(text: str) -> dict[str, Any]:
    """The metadata of a sign."""
    return {"tag": WORD_TAG, "target": text, "prompt": f'a sign that says "{text}"'}


def _training_text(rng: np.random.Generator) -> str:
    """Half everyday words, half random capitals, none of them held out."""
    if rng.random() < 0.5:
        return str(TRAINING_WORDS[rng.integers(len(TRAINING_WORDS))])
    while True:
        text = "".join(chr(65 + i) for i in rng.integers(26, size=rng.integers(3, 7)))
        if not is_held_out(text):
            return text


def _finish(image: np.ndarray) -> np.ndarray:
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def draw_row(world: World, rng: np.random.Generator, metadata: dict[str, Any], *, name_colors: float = 0.0) -> Scene:
    """A scene that fulfils `metadata`; what the metadata leaves open is drawn at random.

    name_colors: how often a caption also names colours that its GenEval row does not ask for.
    """
    image = background(world, rng)
    if metadata["tag"] == WORD_TAG:
        draw_sign(image, metadata["target"])
        return Scene(_finish(image), (), metadata["prompt"], metadata)
    include = metadata["include"]
    named = bool(rng.random() < name_colors)
    tag = metadata["tag"]
    colors = [clause.get("color") or str(rng.choice(world.colors)) for clause in include]
    if tag == "counting":
        spots = place(world, rng, include[0]["count"])
        names = [include[0]["class"]] * len(spots)
        colors = colors * len(spots)
    elif tag == "position":
        spots = place_related(world, rng, include[1]["position"][0])
        names = [clause["class"] for clause in include]
    else:
        spots = place(world, rng, len(include))
        names = [clause["class"] for clause in include]
    placed = [Placed(n, c, *spot) for n, c, spot in zip(names, colors, spots, strict=True)]
    objects = draw_objects(image, placed)
    caption = metadata["prompt"]
    if named:
        told = [{**clause, "color": color} for clause, color in zip(include, colors, strict=False)]
        caption = row(tag, told)["prompt"]
    return Scene(_finish(image), objects, caption, metadata)


def random_row(world: World, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """A random metadata row of a kind in KINDS, from the world's vocabulary; signs never hold out words."""
    names = [str(name) for name in rng.choice(world.classes, 2, replace=False)]
    first, second = ({"class": name, "count": 1} for name in names)
    c, d = (str(color) for color in rng.choice(world.colors, 2, replace=False))
    match kind:
        case "single_object":
            return row(kind, [first])
        case "two_object":
            return row(kind, [first, second])
        case "counting":
            return counting_row(names[0], int(rng.integers(2, 5)))
        case "colors":
            return row(kind, [{**first, "color": c}])
        case "position":
            return row(kind, [first, {**second, "position": [str(rng.choice(RELATIONS)), 0]}])
        case "color_attr":
            return row(kind, [{**first, "color": c}, {**second, "color": d}])
    if kind == WORD_TAG:
        return sign_row(_training_text(rng))
    raise ValueError(f"unknown scene kind {kind!r}")


def random_scene(world: World, rng: np.random.Generator, kind: str, *, name_colors: float = 0.0) -> Scene:
    """A random scene of a kind in KINDS."""
    return draw_row(world, rng, random_row(world, rng, kind), name_colors=name_colors)
