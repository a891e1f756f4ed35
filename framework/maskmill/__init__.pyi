from .api import Pipeline as Pipeline
from .detections import to_supervision as to_supervision
from .errors import (
    DatasetError as DatasetError,
    ImageError as ImageError,
    ImageReadError as ImageReadError,
    MaskmillError as MaskmillError,
    OutputError as OutputError,
    PipelineError as PipelineError,
    PluginError as PluginError,
    Problem as Problem,
    PromptError as PromptError,
    RejectedError as RejectedError,
    StopRun as StopRun,
    Transient as Transient,
    UsageError as UsageError,
)
from .geometry import (
    Box as Box,
    Exemplar as Exemplar,
    Point as Point,
)
from .images import (
    Image as Image,
    ImageRef as ImageRef,
)
from .masks import Mask as Mask
from .output.run import (
    Run as Run,
    RunResults as RunResults,
    read_run as read_run,
)
from .plugins.hooks import hookimpl as hookimpl
from .plugins.optional import (
    Item as Item,
    Survey as Survey,
)
from .plugins.roles import (
    Backend as Backend,
    Filter as Filter,
    PromptSource as PromptSource,
    Writer as Writer,
)
from .plugins.stage import NO_EFFECT as NO_EFFECT
from .predictor import (
    ImageView as ImageView,
    Predictor as Predictor,
    free_models as free_models,
    segment as segment,
)
from .prompts import (
    GivenMask as GivenMask,
    Grid as Grid,
    Prompt as Prompt,
)
from .results import (
    Artifact as Artifact,
    Failure as Failure,
    ImageResult as ImageResult,
    RunInfo as RunInfo,
    RunReport as RunReport,
    save as save,
)
from .version import __version__ as __version__
