"""PySCF's settings in tests: fields keep no files, which would be open until they are collected."""

scf_hf_SCF_mute_chkfile = True
