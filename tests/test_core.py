"What can go wrong while a file is written."
import errno, multiprocessing, os, threading
import pytest
from cifar_hrf.core import InputError, atomic_write, on_signals, write_file

def test_full_disk(tmp_path):
    (tmp_path/'a.txt').write_text('old')
    with pytest.raises(InputError, match='a.txt: cannot be written .No space'), atomic_write(tmp_path/'a.txt') as f:
        f.write_text('new')
        raise OSError(errno.ENOSPC, 'No space left')
    assert [o.name for o in tmp_path.iterdir()]==['a.txt'] and (tmp_path/'a.txt').read_text()=='old'

def write_too_much(path):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (100,100))
    with pytest.raises(InputError, match='a.bin: cannot be written .File too large'): write_file(path, bytes(1000))

@pytest.mark.skipif(os.name!='posix', reason='Windows has no such limit')
def test_file_over_the_limit(tmp_path):
    p = multiprocessing.get_context('fork').Process(target=write_too_much, args=(tmp_path/'a.bin',))
    p.start(); p.join()
    assert p.exitcode==0 and not [*tmp_path.iterdir()]

def test_other_process_writes_the_same_folder(tmp_path):
    with atomic_write(tmp_path/'a') as mine:
        mine.mkdir(); (mine/'x').write_text('mine')
        with atomic_write(tmp_path/'a') as other: other.mkdir(); (other/'x').write_text('other')
    assert (tmp_path/'a/x').read_text()=='other' and len([*tmp_path.iterdir()])==1

def test_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path/'a') as f:
        f.write_text('half of')
        raise KeyboardInterrupt
    assert not [*tmp_path.iterdir()]

def test_written_files_can_be_read_by_others(tmp_path):
    "A temporary file is the user's alone; a result is as any other file"
    write_file(tmp_path/'a.txt', 'a')
    (tmp_path/'b.txt').write_text('b')
    assert (tmp_path/'a.txt').stat().st_mode==(tmp_path/'b.txt').stat().st_mode

def test_signals_outside_the_main_thread():
    ran = []
    def run():
        with on_signals(print): ran.append(1)
    thread = threading.Thread(target=run)
    thread.start(); thread.join()
    assert ran==[1]
