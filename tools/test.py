"Check what is committed, run the notebooks, and run tests/, all at the same time and on the CPU."
import os, subprocess, sys, tempfile
from pathlib import Path

root,bin = Path(__file__).resolve().parent.parent,Path(sys.executable).parent
env = dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PATH=f'{bin}{os.pathsep}{os.environ["PATH"]}')
commands = {'tools/check.py': [sys.executable, 'tools/check.py'],
            'tools/results.py': [sys.executable, 'tools/results.py', '--check'],
            'tests/': [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests'],
            'notebooks': [bin/'nbdev_test', '--n_workers', '2', '--skip_file_re', '^[_.]|^results']} # tools/results.py runs that page

print(f'running {", ".join(commands)}', flush=True)
logs = {k: tempfile.TemporaryFile('w+') for k in commands}
running = {k: subprocess.Popen(o, cwd=root, env=env, stdout=logs[k], stderr=subprocess.STDOUT) for k,o in commands.items()}
failed = [k for k,o in running.items() if o.wait()]
for k,log in logs.items():
    log.seek(0)
    print(f'== {k}: {"failed" if k in failed else "passed"}\n{log.read()}')
if failed: sys.exit(f'failed: {", ".join(failed)}')
