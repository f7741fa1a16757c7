"""What requests and responses say; the OpenAPI document is made of these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rau.search.model import NEUTRAL
from rau.search.searcher import MAX_K
from rau.search.where import MAX_LENGTH

MAX_REFERENCES = 8
Id = Annotated[str, Field(min_length=1, max_length=1000)]
UploadId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=1000)]


class Message(BaseModel):
    """A JSON object with these fields and no other, or made of what has such attributes."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)


class SearchRequest(Message):
    """What is searched for: pictures, words or both."""

    references: list[Id] = Field([], max_length=MAX_REFERENCES, description="ids of the index")
    uploads: list[UploadId] = Field([], max_length=MAX_REFERENCES, description="ids of uploads")
    caption: Text = Field("", description="what should be different, or what is wanted")
    without: Text = Field("", description="what should not be there")
    image_weight: float = Field(
        NEUTRAL, ge=0, le=1, description="1 for only the pictures, 0 for only the caption"
    )
    where: str | None = Field(
        None, max_length=MAX_LENGTH, examples=["category = 'dress' and price < 50"]
    )
    k: int = Field(24, ge=1, le=MAX_K, description="how many pictures to return")
    keep_references: bool = Field(False, description="let a reference be an answer")
    any_category: bool = Field(
        False, description="look at more than the category that the references share"
    )


class Hit(Message):
    """One picture of an answer; `score` is its cosine with the query."""

    id: str
    score: float
    attributes: dict[str, Any]


class Confidence(Message):
    """How sure an answer is.

    Attributes:
        within: probability that what is wanted is among the first k, by k.
        enough: length of the shortest list that holds it with 90 %; null where no short one does.
    """

    within: dict[int, float]
    enough: int | None


class Among(Message):
    """The pictures that an answer was chosen from; references are not counted.

    Attributes:
        category: of the references, to which the search kept; null where it kept to none.
        pictures: how many they are.
        anywhere: how many they would be in any category.
    """

    category: str | None
    pictures: int
    anywhere: int


class SearchResponse(Message):
    """The best pictures, best first.

    Attributes:
        confidence: null where no number was ever checked for such a query and gallery.
        doubt: why, in words.
    """

    hits: list[Hit]
    confidence: Confidence | None
    doubt: str | None
    among: Among


class Upload(Message):
    """A picture that is held in memory for searches, under the SHA-256 of its file."""

    id: str
    width: int
    height: int


class Choices(Message):
    """An attribute with a few values; one of `kind` list has several of them."""

    kind: Literal["text", "list"]
    attribute: str
    values: list[str]


class Range(Message):
    """An attribute that is a number."""

    kind: Literal["number"] = "number"
    attribute: str
    low: float
    high: float


class Flag(Message):
    """An attribute that is true or false."""

    kind: Literal["boolean"] = "boolean"
    attribute: str


Filter = Annotated[Choices | Range | Flag, Field(discriminator="kind")]


class IndexInfo(Message):
    """What can be asked for.

    Attributes:
        examples: ids of some pictures to start from.
        feedback: whether answers are kept; `token` whether that takes a token.
    """

    pictures: int
    filters: list[Filter]
    examples: list[str]
    feedback: bool
    token: bool


class Answer(Message):
    """Whether a picture of the index is what was meant by another and a caption."""

    reference: Id
    target: Id
    caption: Annotated[str, Field(min_length=1, max_length=1000)]
    accepted: bool


class Kept(Message):
    """The answer is on the disk."""

    kept: Literal[True] = True


class Health(Message):
    """The state of the service.

    Attributes:
        stale: whether the index has changed and could not be opened again; the log says why.
    """

    pictures: int
    stale: bool
