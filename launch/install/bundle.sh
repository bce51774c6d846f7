# Sourced by launch/bootstrap: everything in one folder on a connected machine (collect_bundle), and its
# installation on one without network or root (install_bundle), where Debian's packages are unpacked into
# .deps/sysroot and .deps/environment.sh tells the build and the programs where they are.

sysroot=$deps/sysroot

# The packages with all they depend on, as if nothing were installed, so that the bundle does not depend on
# what the machine that collects it happens to have.
collect_packages() {  # collect_packages DIR
  local scratch apt
  scratch=$(mktemp -d)
  touch "$scratch/status"
  apt=(apt-get -o "Dir::State::status=$scratch/status" -o "Dir::Cache=$scratch" -o "Dir::Cache::archives=$1/"
    -o Debug::NoLocking=1 -o APT::Sandbox::User=root --no-install-recommends)
  mkdir -p "$1" "$scratch/archives"
  { LC_ALL=C "${apt[@]}" --assume-no install $(needed_packages) 2>/dev/null || true; } |
    sed -n 's/^Need to get \(.*\) of archives.*/packages: \1 to collect/p'
  "${apt[@]}" -qq --yes --download-only install $(needed_packages) >/dev/null || die "apt-get could not fetch the packages (try 'apt-get update' first)"
  rm -rf "$1/partial" "$1/lock" "$scratch"
}

collect_bundle() {  # collect_bundle DIR
  local folder
  mkdir -p "$1"
  folder=$(cd "$1" && pwd)
  command -v apt-get >/dev/null || die "--bundle collects Debian packages, so it runs on Debian 12"
  python3 -m pip --version >/dev/null 2>&1 || die "--bundle needs python3-pip (apt-get install python3-pip)"
  collect_packages "$folder/packages"
  python3 "$root/launch/install/install_wheels.py" --requirements "$root/launch/install/wheels.txt" --collect "$folder/wheels"
  (cd "$folder" && sha256sum packages/*.deb wheels/*.whl >SHA256SUMS.partial && mv SHA256SUMS.partial SHA256SUMS)
  say "bundle: $(du -sh "$folder" | cut -f1) in $folder. Copy it and this source folder to the other machine; there:"
  say "  launch/bootstrap --from <the bundle> && launch/quickstart"
}

# Whether the machine's own compiler takes C++20; if so it is used, with its own C library.
has_own_compiler() {
  printf '#include <concepts>\n#include <span>\nint main() { return std::span<int>().size(); }\n' |
    "${CXX:-c++}" -std=c++20 -x c++ - -o /dev/null 2>/dev/null
}

unpack_package() {  # unpack_package FILE FOLDER
  if command -v dpkg-deb >/dev/null; then
    dpkg-deb -x "$1" "$2"
  else  # a .deb is an ar archive with a tar of the files in it
    ar p "$1" data.tar.xz | tar -xJf - -C "$2"
  fi
}

unpack_packages() {  # unpack_packages DIR
  local file name count=0 skip='^$'
  if has_own_compiler; then
    # A second C library, or its headers, would meet the machine's own in one program.
    skip='^(libc6|libc-dev-bin|linux-libc-dev|libcrypt|gcc|g\+\+|cpp|gfortran|binutils|libgcc|libstdc|libgomp|libatomic|lib[altu]+san)'
  fi
  say "packages: unpacking $(find "$1" -name '*.deb' | wc -l) into .deps/sysroot (about 900 MB)"
  rm -rf "$sysroot" && mkdir -p "$sysroot"
  for file in "$1"/*.deb; do
    name=$(basename "$file")
    if grep -qE "$skip" <<<"$name"; then continue; fi
    unpack_package "$file" "$sysroot"
    count=$((count + 1))
    if [ $((count % 50)) = 0 ]; then say "  $count packages unpacked"; fi
  done
  relocate_sysroot
  touch "$sysroot/.unpacked"
}

# What the packages' own installation scripts would have done, and links that say /usr.
relocate_sysroot() {
  local link target name
  while read -r link; do
    target=$(readlink "$link")
    ln -sfnr "$sysroot$target" "$link"
  done < <(find "$sysroot" -type l -lname '/*')
  for name in mpirun mpiexec mpicc mpicxx mpic++; do ln -sfn "$name.openmpi" "$sysroot/usr/bin/$name"; done
  # One folder of libraries to search at run time, without the C library, which belongs to the machine's loader.
  for link in "$sysroot"/lib/x86_64-linux-gnu/*.so*; do
    name=$(basename "$link")
    case $name in
      ld-* | libc.so* | libm.so* | libmvec* | libdl.so* | libpthread* | librt.so* | libresolv* | libutil* | libanl* | libnss_* | libthread_db* | libBrokenLocale* | libc_malloc_debug* | libmemusage* | libpcprofile* | libnsl.so.1) ;;
      *) [ -e "$sysroot/usr/lib/x86_64-linux-gnu/$name" ] || ln -sr "$link" "$sysroot/usr/lib/x86_64-linux-gnu/$name" ;;
    esac
  done
}

# Tools of the bundle that the machine lacks, in .deps/bin; its own come first otherwise (a cluster's mpirun).
link_tools() {
  local name
  rm -rf "$deps/bin" && mkdir -p "$deps/bin"
  for name in cmake ctest ninja python3 mpirun mpiexec mpicc mpicxx ssh; do
    command -v "$name" >/dev/null || ln -s "$sysroot/usr/bin/$name" "$deps/bin/$name"
  done
  if ! has_own_compiler; then
    for name in gcc g++; do
      printf '#!/bin/sh\nexec "%s/usr/bin/%s" --sysroot="%s" -B"%s/usr/bin" "$@"\n' "$sysroot" "$name" "$sysroot" "$sysroot" >"$deps/bin/$name"
      chmod +x "$deps/bin/$name"
    done
    ln -s gcc "$deps/bin/cc"
    ln -s g++ "$deps/bin/c++"
    for name in ar ranlib nm ld as objdump readelf strip; do ln -sf "$sysroot/usr/bin/$name" "$deps/bin/$name"; done
  fi
}

write_environment() {
  local library=$sysroot/usr/lib/x86_64-linux-gnu
  {
    echo "# Source this (bash) before cmake or espalier by hand; launch/quickstart and tests/run do so themselves."
    echo "export PATH='$deps/bin':\$PATH"
    echo "export LD_LIBRARY_PATH='$library':'$library/openmpi/lib'\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
    echo "export CMAKE_PREFIX_PATH='$sysroot/usr'\${CMAKE_PREFIX_PATH:+:\$CMAKE_PREFIX_PATH}"
    if [ ! -e "$deps/bin/g++" ]; then  # the machine's own compiler does not know Debian's folders there
      echo "export C_INCLUDE_PATH='$sysroot/usr/include/x86_64-linux-gnu'\${C_INCLUDE_PATH:+:\$C_INCLUDE_PATH}"
      echo "export CPLUS_INCLUDE_PATH='$sysroot/usr/include/x86_64-linux-gnu'\${CPLUS_INCLUDE_PATH:+:\$CPLUS_INCLUDE_PATH}"
    fi
    if [ -e "$deps/bin/mpirun" ]; then  # Open MPI looks for its parts where it was configured to be, or here
      echo "export OPAL_PREFIX='$sysroot/usr' OPAL_EXEC_PREFIX='$sysroot/usr' OPAL_BINDIR='$sysroot/usr/bin'"
      echo "export OPAL_LIBDIR='$library/openmpi/lib' OPAL_INCLUDEDIR='$library/openmpi/include'"
      echo "export OPAL_PKGLIBDIR='$library/openmpi/lib/openmpi3' OPAL_PKGINCLUDEDIR='$library/openmpi/include/openmpi'"
      echo "export OPAL_DATADIR='$sysroot/usr/share' OPAL_PKGDATADIR='$sysroot/usr/share/openmpi' OPAL_SYSCONFDIR='$sysroot/etc/openmpi'"
      echo "export PMIX_INSTALL_PREFIX='$library/pmix2' PMIX_LIBDIR='$library/pmix2/lib' PMIX_PKGLIBDIR='$library/pmix2/lib/pmix'"
      echo "export PMIX_DATADIR='$library/pmix2/share' PMIX_PKGDATADIR='$library/pmix2/share/pmix' HWLOC_PLUGINS_PATH='$library/hwloc'"
    fi
  } >"$deps/environment.sh.partial"
  mv "$deps/environment.sh.partial" "$deps/environment.sh"
}

install_bundle() {  # install_bundle DIR
  local folder
  folder=$(cd "$1" 2>/dev/null && pwd) || die "$1 is not a folder"
  [ -f "$folder/SHA256SUMS" ] || die "$1 has no SHA256SUMS: not a bundle, or its collection was stopped"
  if [ -z "$(missing_packages)" ]; then
    say "packages: all are installed on this machine"
  elif [ ! -f "$sysroot/.unpacked" ]; then
    say "bundle: checking its files"
    (cd "$folder" && sha256sum --quiet -c SHA256SUMS) || die "the bundle in $1 is damaged (files named above)"
    unpack_packages "$folder/packages"
  fi
  if [ -f "$sysroot/.unpacked" ]; then
    link_tools
    write_environment
    . "$deps/environment.sh"
    say "packages: in .deps/sysroot; tools that this machine lacks: $(ls "$deps/bin" | tr '\n' ' ')"
  fi
  install_wheels --from "$folder/wheels"
}
