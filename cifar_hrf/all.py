"Everything: `from cifar_hrf.all import *`. Written by hand."
from fastai.vision.all import *
from cifar_hrf.source import *
from cifar_hrf.transforms import *
from cifar_hrf.loaders import *
from cifar_hrf.layers import *
from cifar_hrf.models import *
from cifar_hrf.schedule import *
from cifar_hrf.lr_range import *
from cifar_hrf.learner import *
from cifar_hrf.recipe import *
from cifar_hrf.zoo import *
from cifar_hrf.writeups import *
from cifar_hrf.interpret import *
from cifar_hrf.train import *
from cifar_hrf.receptive_field import *
from cifar_hrf.results import *
from cifar_hrf.bench import *
