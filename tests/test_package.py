"What is installed: the commands of settings.ini exist and explain themselves."
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
import pytest

cfg = ConfigParser(delimiters=['='])
cfg.read(Path(__file__).parent.parent/'settings.ini', encoding='utf-8')
commands = [o.split('=') for o in cfg['DEFAULT']['console_scripts'].split()]

@pytest.mark.parametrize('name,target', commands)
def test_command_help(name, target, capsys):
    module,function = target.split(':')
    with pytest.raises(SystemExit) as e: getattr(import_module(module), function)(['--help'])
    assert e.value.code==0
    assert f'usage: {name}' in capsys.readouterr().out

def test_all_has_what_a_user_types():
    import fastai.vision.all, cifar_hrf.all
    names = {k for k in vars(cifar_hrf.all) if k[0]!='_'}-set(vars(fastai.vision.all))-{'cifar_hrf'}
    assert len(names)<90
    assert {'cifar_dls','resident','hrf_learner','custom_resnet','one_cycle','train','receptive_field','read_runs','hrf_train'}<=names
