"""Published generators, as configurations of spaces, denoisers, processes and couplings."""

from .aligned_runs import AlignedRuns as AlignedRuns
from .aligned_runs import align_runs as align_runs
from .bend import Ensemble as Ensemble
from .bend import bend as bend
from .bend import draw_ensemble as draw_ensemble
from .conditional_p_diff import conditional_p_diff as conditional_p_diff
from .conditional_p_diff import lora_diffusion as lora_diffusion
from .d2nwg import d2nwg as d2nwg
from .d2nwg import match_conditions as match_conditions
from .deep_weight_flow import deep_weight_flow as deep_weight_flow
from .flown import flown as flown
from .g_pt import Updates as Updates
from .g_pt import g_pt as g_pt
from .g_pt import prompt as prompt
from .g_pt import updates as updates
from .geometric_flow import geometric_flow as geometric_flow
from .gpd import gpd as gpd
from .hyper_diffusion import hyper_diffusion as hyper_diffusion
from .latents import flat_latents as flat_latents
from .p_diff import p_diff as p_diff
from .rpg import rpg as rpg
