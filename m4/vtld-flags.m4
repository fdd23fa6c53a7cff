# SPDX-License-Identifier: LGPL-2.1-or-later

# VTLD_APPEND_CFLAGS(VARIABLE, FLAGS)
# -----------------------------------
# Appends those of FLAGS to VARIABLE that the compiler takes.  clang only warns of flags that it
# does not know, hence -Werror; -Wno-x is tried as -Wx, because gcc takes any -Wno-.
AC_DEFUN([VTLD_APPEND_CFLAGS], [
  for vtld_flag in m4_normalize([$2]); do
    AS_VAR_PUSHDEF([vtld_cache], [vtld_cv_cflag_$vtld_flag])
    AC_CACHE_CHECK([whether $CC takes $vtld_flag], [vtld_cache], [
      vtld_saved_CFLAGS=$CFLAGS
      CFLAGS="-Werror `AS_ECHO(["$vtld_flag"]) | sed 's/^-Wno-/-W/'`"
      AC_COMPILE_IFELSE([AC_LANG_PROGRAM], [AS_VAR_SET([vtld_cache], [yes])],
                        [AS_VAR_SET([vtld_cache], [no])])
      CFLAGS=$vtld_saved_CFLAGS
    ])
    AS_VAR_IF([vtld_cache], [yes], [AS_VAR_APPEND([$1], [" $vtld_flag"])])
    AS_VAR_POPDEF([vtld_cache])
  done
])
