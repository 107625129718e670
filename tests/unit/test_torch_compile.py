"""The backend follows the compiler, and the paths that it would be given."""

import importlib.machinery

import pytest

from course import torch_compile


@pytest.fixture
def compiler(monkeypatch):
    """A C++ compiler is found, and everything lies under paths without spaces."""
    monkeypatch.setattr(torch_compile.shutil, "which", lambda name: "/usr/bin/" + name)
    monkeypatch.setattr(torch_compile, "find_spec", lambda name: spec("/venv/torch/__init__.py"))
    monkeypatch.setattr(torch_compile.sysconfig, "get_path", lambda name: "/python/include")
    monkeypatch.setattr(torch_compile.sysconfig, "get_config_var", lambda name: None)  # as on Windows
    monkeypatch.setattr(torch_compile.tempfile, "gettempdir", lambda: "/tmp")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    return monkeypatch


def spec(origin):
    return importlib.machinery.ModuleSpec("torch", None, origin=origin)


def test_without_a_compiler_it_says_so(compiler, capsys):
    compiler.setattr(torch_compile.shutil, "which", lambda name: None)
    assert torch_compile.backend() == "aot_eager"
    assert "no C++ compiler found" in capsys.readouterr().out


@pytest.mark.parametrize("torch", [spec("/venv/torch/__init__.py"), spec(None), None])
def test_with_a_compiler_it_is_inductor(compiler, capsys, torch):
    """Wherever torch is, if it is anywhere: a namespace has no file."""
    compiler.setattr(torch_compile, "find_spec", lambda name: torch)
    assert torch_compile.backend() == "inductor"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("where", ["environment", "headers", "library", "temporary files", "cache"])
def test_with_a_space_in_a_path_it_says_so(where, compiler, capsys):
    if where == "environment":
        compiler.setattr(torch_compile, "find_spec", lambda name: spec("/my course/torch/__init__.py"))
    elif where == "headers":
        compiler.setattr(torch_compile.sysconfig, "get_path", lambda name: "/my course/include")
    elif where == "library":
        compiler.setattr(torch_compile.sysconfig, "get_config_var", lambda name: "/my course/lib")
    elif where == "temporary files":
        compiler.setattr(torch_compile.tempfile, "gettempdir", lambda: "/my course")
    else:
        compiler.setenv("TORCHINDUCTOR_CACHE_DIR", "/my course")
    assert torch_compile.backend() == "aot_eager"
    assert "break at the space in /my course" in capsys.readouterr().out
