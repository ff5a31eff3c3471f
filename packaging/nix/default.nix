# SPDX-License-Identifier: MIT OR Apache-2.0
# nix-build packaging/nix
{ pkgs ? import <nixpkgs> { } }:
let
  source = ../..;
  manifest = (builtins.fromTOML (builtins.readFile (source + "/Cargo.toml"))).package;
in
pkgs.stdenv.mkDerivation {
  pname = manifest.name;
  version = manifest.version;
  src = pkgs.lib.cleanSource source;
  cargoDeps = pkgs.rustPlatform.importCargoLock { lockFile = source + "/Cargo.lock"; };
  nativeBuildInputs = [ pkgs.cargo pkgs.rustc pkgs.rustPlatform.cargoSetupHook ];
  postPatch = "patchShebangs packaging c_tests";
  makeFlags = [ "PREFIX=$(out)" ];
  doCheck = true;
  checkPhase = "c_tests/run.sh quickstart palloc_errors vmem_first buflib_step";
  meta = {
    description = manifest.description;
    license = with pkgs.lib.licenses; [ mit asl20 ];
    platforms = pkgs.lib.platforms.linux;
    mainProgram = "palloc";
  };
}
