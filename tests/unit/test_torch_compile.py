"""The backend follows the compiler."""

from course import torch_compile


def test_without_a_compiler_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch_compile.shutil, "which", lambda name: None)
    assert torch_compile.backend() == "aot_eager"
    assert "no C++ compiler found" in capsys.readouterr().out


def test_with_a_compiler_it_is_inductor(monkeypatch, capsys):
    monkeypatch.setattr(torch_compile.shutil, "which", lambda name: "/usr/bin/" + name)
    assert torch_compile.backend() == "inductor"
    assert capsys.readouterr().out == ""
