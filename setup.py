"Everything that is said here comes from settings.ini."
from configparser import ConfigParser
from pathlib import Path
import re, sys
from setuptools import find_packages, setup

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
minor = int(cfg['min_python'].split('.')[1])
if sys.version_info<(3,minor): sys.exit(f"cifar_hrf needs Python {cfg['min_python']} or newer; this is {sys.version.split()[0]}")
readme = Path('README.md').read_text(encoding='utf-8') # with whole addresses, as PyPI has no files beside it
readme = re.sub(r'\]\((?!https?:|#)', f"]({cfg['git_url']}/blob/{cfg['branch']}/", readme).replace('.png)', '.png?raw=true)')

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license='Apache-2.0',
    packages=find_packages(include=[cfg['lib_path'], cfg['lib_path']+'.*']), include_package_data=True, zip_safe=False,
    python_requires='>='+cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require={o: cfg[f'{o}_requirements'].split() for o in ('dev','onnx','app','ray','search','track')},
    entry_points=dict(console_scripts=cfg['console_scripts'].split(), nbdev=[f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]),
    long_description=readme, long_description_content_type='text/markdown',
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: '+cfg['audience'],
                 'Natural Language :: '+cfg['language']] + [f'Programming Language :: Python :: 3.{v}' for v in range(minor, 14)])
