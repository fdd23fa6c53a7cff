# SPDX-License-Identifier: LGPL-2.1-or-later
"""The calls of vsm.md section 3: what the rows of the engine's real table must say.

Sizes are those of the hypercall table inside the real hypervisor where vsm.md 3.0 lists them, else
those of the layouts in 3.1-3.20. Others may be added to hvcall/table.c at any time: a row that is
there has to be as here, one that is not is only told of. A row that is not here fails, for nobody
has read its layout twice then.
"""

from dataclasses import dataclass

# vsm.md 1.2: bits of the privilege mask
POST_MESSAGES = 1 << 36
SIGNAL_EVENTS = 1 << 37
ACCESS_VSM = 1 << 48
ACCESS_VP_REGISTERS = 1 << 49
EXTENDED_HYPERCALLS = 1 << 52
START_VIRTUAL_PROCESSOR = 1 << 53

# vsm.md names no privilege for the call, and vtld need not either: any that vsm.md knows, or none
UNNAMED = None
KNOWN = (POST_MESSAGES | SIGNAL_EVENTS | ACCESS_VSM | ACCESS_VP_REGISTERS | EXTENDED_HYPERCALLS |
         START_VIRTUAL_PROCESSOR)


@dataclass
class Call:
    name: str
    code: int
    kind: str
    input: int | tuple  # several where sources conflict and vsm.md does not decide
    output: int = 0
    rep_in: int = 0
    rep_out: int = 0
    variable: int = 0
    privilege: int | None = 0


CALLS = [
    Call("SwitchVirtualAddressSpace", 0x0001, "simple", 8, privilege=UNNAMED),  # 3.20
    Call("FlushVirtualAddressSpace", 0x0002, "simple", 0x18),  # 3.0, 3.11
    Call("FlushVirtualAddressList", 0x0003, "rep", 0x18, rep_in=8),
    Call("NotifyLongSpinWait", 0x0008, "simple", 8),  # 3.0, 3.20
    Call("SendSyntheticClusterIpi", 0x000b, "simple", 0x10),  # 3.0, 3.12
    Call("ModifyVtlProtectionMask", 0x000c, "rep", 0x10, rep_in=8, privilege=ACCESS_VSM),
    Call("EnablePartitionVtl", 0x000d, "simple", 0x10, privilege=ACCESS_VSM),  # 3.2
    Call("DisablePartitionVtl", 0x000e, "simple", 16, privilege=ACCESS_VSM),  # 3.3
    Call("EnableVpVtl", 0x000f, "simple", 0xf0, privilege=ACCESS_VSM),  # 3.4
    Call("DisableVpVtl", 0x0010, "simple", 16, privilege=ACCESS_VSM),  # 3.5
    Call("VtlCall", 0x0011, "vtl", 0, privilege=ACCESS_VSM),  # 3.6
    Call("VtlReturn", 0x0012, "vtl", 0, privilege=ACCESS_VSM),
    Call("FlushVirtualAddressSpaceEx", 0x0013, "simple", 0x20, variable=1),  # 3.0, 3.11
    Call("FlushVirtualAddressListEx", 0x0014, "rep", 0x20, rep_in=8, variable=1),
    Call("SendSyntheticClusterIpiEx", 0x0015, "simple", 0x18, variable=1),  # 3.0, 3.12
    Call("InstallIntercept", 0x004d, "simple", 24, privilege=UNNAMED),  # 3.16
    Call("GetVpRegisters", 0x0050, "rep", 0x10, rep_in=4, rep_out=16,
         privilege=ACCESS_VP_REGISTERS),  # 3.0, 3.7
    Call("SetVpRegisters", 0x0051, "rep", 0x10, rep_in=0x20, privilege=ACCESS_VP_REGISTERS),
    # 3.9 names no privilege; it reads a VP's registers, hence theirs
    Call("TranslateVirtualAddress", 0x0052, "simple", 32, output=16,
         privilege=ACCESS_VP_REGISTERS),
    Call("PostMessage", 0x005c, "simple", 0x100, privilege=POST_MESSAGES),  # 1.2, 3.0, 3.19
    Call("SignalEvent", 0x005d, "simple", 8, privilege=SIGNAL_EVENTS),
    Call("RetargetDeviceInterrupt", 0x007e, "simple", 0x38, variable=1,
         privilege=UNNAMED),  # 3.0, 3.18
    # 3.15 names none; VTL1 alone may, so AccessVsm
    Call("AssertVirtualInterrupt", 0x0094, "simple", 32, privilege=ACCESS_VSM),
    Call("StartVirtualProcessor", 0x0099, "simple", 0xf0, privilege=START_VIRTUAL_PROCESSOR),
    Call("GetVpIndexFromApicId", 0x009a, "rep", 0x10, rep_in=4, rep_out=4),  # 3.0, 3.14, 11.2
    Call("TranslateVirtualAddressEx", 0x00ac, "simple", 32, output=64,
         privilege=ACCESS_VP_REGISTERS),  # 3.10
    Call("SignalEventDirect", 0x00c0, "simple", 16, output=8, privilege=UNNAMED),  # 3.20
    # 3.20: 280 bytes with Sint at 16 (HD), or 272 with Sint at 13 (T)
    Call("PostMessageDirect", 0x00c1, "simple", (280, 272), privilege=UNNAMED),
    Call("CheckSparseGpaPageVtlAccess", 0x00d4, "rep", 16, rep_in=8, rep_out=8,
         privilege=UNNAMED),  # 3.17
    Call("ExtCallQueryCapabilities", 0x8001, "simple", 0, output=8,
         privilege=EXTENDED_HYPERCALLS),  # 1.2, 3.20
]


def parse_table(text):
    """The rows that the driver's --table prints"""
    rows = []
    for line in text.splitlines():
        name, *words = line.split()
        row = dict(word.split("=") for word in words)
        kind = row.pop("kind")
        rows.append(Call(name, kind=kind, **{key: int(value, 0) for key, value in row.items()}))
    return rows


def compare(rows, calls=None):
    """What is wrong with a table, and which calls it does not have; lines of text both"""
    calls = {call.code: call for call in (CALLS if calls is None else calls)}
    wrong, missing = [], set(calls)
    for before, row in zip(rows, rows[1:]):
        if before.code >= row.code:
            wrong.append("%s: not sorted by code" % row.name)
    for row in rows:
        call = calls.get(row.code)
        if call is None:
            wrong.append("%s, code %#x: add what vsm.md section 3 says of it to calls.py" %
                         (row.name, row.code))
            continue
        missing.discard(row.code)
        for key in ("name", "kind", "input", "output", "rep_in", "rep_out", "variable"):
            expected, got = getattr(call, key), getattr(row, key)
            if got not in (expected if isinstance(expected, tuple) else (expected,)):
                wrong.append("%s: %s is %s, by vsm.md %s" % (call.name, key, got, expected))
        if call.privilege is UNNAMED:
            if row.privilege & ~KNOWN:
                wrong.append("%s: privilege %#x" % (call.name, row.privilege))
        elif row.privilege != call.privilege:
            wrong.append("%s: privilege is %#x, by vsm.md %#x" %
                         (call.name, row.privilege, call.privilege))
    return wrong, ["%#x %s" % (code, calls[code].name) for code in sorted(missing)]
