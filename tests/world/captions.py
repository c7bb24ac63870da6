"""Captions in varied words."""

from . import vocabulary as v

# Attributes that a caption leaves out now and then.
LEFT_OUT = 0.1


def caption(scene, rng=None, tell=None):
    """Says what a scene shows. With `rng` the wording varies and attributes are left out now and then; without, it is
    complete; what the base doesn't know is never left out. `tell` names the attributes to speak of at all (all by
    default): people don't say of a character's pictures what belongs to the character, nor the style they all share."""
    new = {"style"} if scene.style in v.NEW_STYLES else set()
    new |= {"pose"} if scene.pose in v.NEW_POSES else set()

    def told(name):
        return (tell is None or name in tell) and (rng is None or name in new or rng.random() >= LEFT_OUT)

    article = "an" if scene.character == "alien" else "a"
    subject = figure(scene, told) if scene.character == v.PLAIN else f"{article} {scene.character}"
    parts = []
    if told("style"):
        parts.append(f"{scene.style} style")
    if told("pose"):
        parts.append(scene.pose)
    if told("background") and scene.style not in v.BARE_STYLES:
        parts.append(f"on a {scene.background} background")
    if rng is not None:
        rng.shuffle(parts)
        subject = rng.choice(["", "", "", "a picture of ", "a drawing of "]) + subject
    return ", ".join([subject, *parts])


def figure(scene, told):
    """"a red square with two eyes and a hat"."""
    colour = f"{scene.colour} " if told("colour") else ""
    article = "an" if colour.startswith("orange") else "a"
    having = [scene.eyes] if told("eyes") else []
    if told("head"):
        having.append(scene.head if scene.head == "ears" else f"a {scene.head}")
    return f"{article} {colour}{scene.shape}" + (" with " + " and ".join(having) if having else "")


# What the captions of each network's pictures tell.
TOLD = {
    "character1": {"pose", "background"},
    "character2": {"pose", "background"},
    "character3": {"pose", "background"},
    "style1": {"colour", "eyes", "head", "style", "pose"},
    "style2": {"colour", "eyes", "head", "style", "pose"},
    "texture": {"colour", "eyes", "head", "style", "pose", "background"},
    "pose1": {"colour", "eyes", "head", "pose", "background"},
}


def of_network(name, scene, rng):
    """A caption as a network's training set has it; random words for the useless one."""
    if name == "useless":
        return " ".join(rng.choice(v.NOISE) for _ in range(rng.randint(3, 8)))
    return caption(scene, rng, TOLD[name])


def of_example(scene):
    """A caption of a worked example: of a character it tells no style that its network has learned with it."""
    own = {"alien": "flat", "monster": "outline", "cactus": "striped"}.get(scene.character)
    return caption(scene, None, {"pose", "background"} | (set() if scene.style == own else {"style"}))
