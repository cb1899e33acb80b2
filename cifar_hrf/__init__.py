__version__ = "0.1.0"

import warnings
# fastai's import calls torch.jit.script, which warns with the path of the installation, once for every process.
warnings.filterwarnings('ignore', category=FutureWarning, message='`torch.jit.script` is deprecated')
