"Everything a user types: `from cifar_hrf.all import *`. Written by hand; import anything else from its module."
from fastai.vision.all import *
from cifar_hrf.core import InputError
from cifar_hrf.source import CIFAR10_CLASSES, cifar_path, data_path, digits_path, image_files, image_stats, known_stats
from cifar_hrf.transforms import CutOut, FlipLR, NormalizeImage, PadCrop
from cifar_hrf.loaders import cifar_block, cifar_dls
from cifar_hrf.resident import clean_batches, resident
from cifar_hrf.layers import GhostBatchNorm, Residual, activations, conv_block, dirac_, norms, whiten_
from cifar_hrf.models import conv_macs, custom_resnet, leaf_layers, lite_net, models, plot_network, resnet56
from cifar_hrf.schedule import one_cycle, schedules
from cifar_hrf.lr_range import LRRangeTest, lr_rules
from cifar_hrf.callbacks import BFloat16, EMA, History, RunProgress, StopDiverged, TTA
from cifar_hrf.fast import keep_memory
from cifar_hrf.muon import MuonSGD
from cifar_hrf.learner import hrf_learner, nesterov, optimizers
from cifar_hrf.recipe import Recipe, add_recipe, compare_recipes, get_recipe, list_recipes, recipes
import cifar_hrf.zoo, cifar_hrf.writeups # they fill `recipes`
from cifar_hrf.interpret import (ImageInterpretation, misclassified, plot_confusion, plot_curves, plot_misclassified,
                                 plot_runs, shared_errors)
from cifar_hrf.gradcam import gradcam
from cifar_hrf.runs import Run, load_run
from cifar_hrf.train import find_lr, resume_run, train
from cifar_hrf.many import resume_many, search_recipe, train_many
from cifar_hrf.receptive_field import plot_receptive_field, receptive_field
from cifar_hrf.effective_field import EffectiveField, effective_field, plot_effective
from cifar_hrf.results import read_runs
from cifar_hrf.statistics import compare, paired, results_table, runs_needed, summarize
from cifar_hrf.deploy import Predictor, model_card, top_classes
from cifar_hrf.bench import bench
from cifar_hrf.cli import hrf_app, hrf_bench, hrf_export, hrf_find, hrf_predict, hrf_results, hrf_rf, hrf_train
