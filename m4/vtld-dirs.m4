# SPDX-License-Identifier: LGPL-2.1-or-later

# VTLD_ARG_DIR(NAME, DEFAULT, WHAT): --with-NAMEdir=DIR, where WHAT go; substitutes NAMEdir. DEFAULT
# may hold make's variables.
AC_DEFUN([VTLD_ARG_DIR],
[AC_ARG_WITH([$1dir],
  [AS_HELP_STRING([--with-$1dir=DIR], [where $3 go])],
  [], [with_$1dir=$2])
AC_SUBST([$1dir], [$with_$1dir])])
