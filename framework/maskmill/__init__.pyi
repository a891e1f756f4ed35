from .api import (
    Pipeline as Pipeline,
)
from .api import (
    segment as segment,
)
from .errors import (
    DatasetError as DatasetError,
)
from .errors import (
    ImageError as ImageError,
)
from .errors import (
    ImageReadError as ImageReadError,
)
from .errors import (
    MaskmillError as MaskmillError,
)
from .errors import (
    OutputError as OutputError,
)
from .errors import (
    PipelineError as PipelineError,
)
from .errors import (
    PluginError as PluginError,
)
from .errors import (
    Problem as Problem,
)
from .errors import (
    PromptError as PromptError,
)
from .errors import (
    StopRun as StopRun,
)
from .errors import (
    Transient as Transient,
)
from .errors import (
    UsageError as UsageError,
)
from .images import (
    Image as Image,
)
from .images import (
    ImageRef as ImageRef,
)
from .masks import Mask as Mask
from .output.run import (
    Run as Run,
)
from .output.run import (
    read_run as read_run,
)
from .plugins.hooks import hookimpl as hookimpl
from .plugins.optional import (
    Item as Item,
)
from .plugins.optional import (
    Survey as Survey,
)
from .plugins.roles import (
    Backend as Backend,
)
from .plugins.roles import (
    Filter as Filter,
)
from .plugins.roles import (
    PromptSource as PromptSource,
)
from .plugins.roles import (
    Writer as Writer,
)
from .plugins.stage import NO_EFFECT as NO_EFFECT
from .prompts import (
    Box as Box,
)
from .prompts import (
    Grid as Grid,
)
from .prompts import (
    Point as Point,
)
from .prompts import (
    Prompt as Prompt,
)
from .results import (
    Artifact as Artifact,
)
from .results import (
    Failure as Failure,
)
from .results import (
    ImageResult as ImageResult,
)
from .results import (
    RunInfo as RunInfo,
)
from .results import (
    RunReport as RunReport,
)
from .results import (
    save as save,
)
from .version import __version__ as __version__
