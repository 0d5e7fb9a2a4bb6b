//! The pages behind `stockade explain CODE`.

/// One page.
pub struct Page {
    /// The stable code.
    pub code: &'static str,
    /// The title.
    pub title: &'static str,
    /// The text.
    pub text: &'static str,
}

/// Every code, sorted.
pub const CODES: &[Page] = &[
    Page {
        code: "E0001",
        title: "the text is refused before it is read",
        text: concat!(
            "A policy must look the same to a reviewer and to the compiler. Control characters (NUL, carriage return, escape),\n",
            "invisible and direction-changing characters, text that isn't UTF-8, files over 256 KiB or 10000 lines, lines over 16 KiB\n",
            "and brackets nested deeper than 24 are refused everywhere, comments and strings included.",
        ),
    },
    Page {
        code: "E0100",
        title: "the text can't be parsed",
        text: "The parser gave up on the whole text. Its grammar accepts every text, so this is a fault of Stockade: report it.",
    },
    Page {
        code: "E0101",
        title: "`}` closes nothing",
        text: "There are more closing than opening braces. Look above for the `{` that is missing.",
    },
    Page {
        code: "E0102",
        title: "a block without a keyword",
        text: concat!("A block belongs to a word:\n", "\n", "    limits { nofile 1024 }",),
    },
    Page {
        code: "E0103",
        title: "a bracket is never closed",
        text: "A list, a block or a pair of parentheses is still open at the end. The place shown is where it was opened.",
    },
    Page {
        code: "E0104",
        title: "a character that has no meaning",
        text: "The language uses { } [ ] ( ) -> == != < <= > >= ..= = & , ; # and quotes. Other text goes into \"quotes\".",
    },
    Page {
        code: "E0105",
        title: "the string is never closed",
        text: "A string ends with a quote on the line on which it began.",
    },
    Page { code: "E0106", title: "unknown escape in a string", text: "Known are \\\", \\\\, \\n and \\t." },
    Page {
        code: "E0201",
        title: "unknown statement",
        text: "The word isn't known where it stands; a suggestion is given when one is near. Nothing unknown is ever skipped.",
    },
    Page {
        code: "E0202",
        title: "unknown choice",
        text: "The statement is known, the word after it isn't; the message lists the ones that are.",
    },
    Page {
        code: "E0203",
        title: "something is left over",
        text: "The statement is complete before the end of the line. One grant stands on a line; a reason is `why \"...\"`.",
    },
    Page {
        code: "E0204",
        title: "something is missing",
        text: "The statement ends too early. The message says what belongs there.",
    },
    Page {
        code: "E0205",
        title: "something else was expected",
        text: concat!(
            "Paths and texts are in quotes, names and numbers aren't, host and machine side are separated by `->`:\n",
            "\n",
            "    bind \"/srv/www\" -> \"/srv/www\" ro",
        ),
    },
    Page {
        code: "E0206",
        title: "wrong metadata",
        text: "`why` and `ref` take a text in quotes, `until` a date: `until 2027-03-31`.",
    },
    Page {
        code: "E0207",
        title: "not an absolute path",
        text: "Paths begin with `/` and have no `.`, `..` or empty parts, so that the path in review is the path in effect.",
    },
    Page {
        code: "E0208",
        title: "unknown parameter",
        text: concat!(
            "`${NAME}` needs `param NAME TYPE DEFAULT` at the top of the file:\n",
            "\n",
            "    param www path \"/srv/www\"",
        ),
    },
    Page { code: "E0209", title: "items of a list are separated by commas", text: "    allow [read, write, close]" },
    Page {
        code: "E0210",
        title: "an import can't be read",
        text: concat!(
            "Imports are `std/NAME` from the built-in library, or files below the policy's own folder, written without\n",
            "`.stockade`. `..`, symbolic links and files that others can write are refused.",
        ),
    },
    Page {
        code: "E0211",
        title: "a name can't be used",
        text: "Machine and image names become host names, folders and units: 1 to 63 small letters, digits and inner hyphens.\nProfiles whose names begin with `std/` are the library's.",
    },
    Page {
        code: "E0212",
        title: "a value without a right unit",
        text: "Sizes are whole numbers with B, KiB, MiB, GiB or TiB; durations with s, min, h or d; counts are bare numbers.",
    },
    Page { code: "E0213", title: "not a mode", text: "Modes and umasks are octal numbers: mode=0755, umask 022." },
    Page {
        code: "E0214",
        title: "not a port",
        text: "A port is a number from 1 to 65535, a range of at most 1000 ports `8000-8010`, or `any`.",
    },
    Page {
        code: "E0215",
        title: "the edition is missing or unknown",
        text: "The first line of every file is `policy 1`. An edition never changes its meaning.",
    },
    Page {
        code: "E0216",
        title: "a group only allows",
        text: "A group is a set of calls with their conditions. Whether they are allowed or denied is written where it is used.",
    },
    Page {
        code: "E0217",
        title: "a block is missing",
        text: "`profile`, `machine`, `group`, `test` and most sections have a block in braces.",
    },
    Page { code: "E0218", title: "a statement takes no block", text: "Remove the braces." },
    Page {
        code: "E0219",
        title: "the kernel baseline",
        text: concat!(
            "`kernel 6.12` says which table of system calls the author reviewed. Calls that came later are absent (ENOSYS)\n",
            "until the line is raised. It can't be newer than the table that this version ships.",
        ),
    },
    Page {
        code: "E0220",
        title: "a parameter's type",
        text: concat!(
            "Types are path, port, cidr, int, size, duration, bool, string and enum [a, b]; each parameter has a default of\n",
            "its type. Ranges are for int and port: `param port port 443 in 1..=1023`.",
        ),
    },
    Page {
        code: "E0221",
        title: "a machine is incomplete",
        text: concat!(
            "A machine says its root, its program (`exec` or `boot`), its user (for `exec`) and its capabilities, even if\n",
            "that is `capabilities { none }`. Root is never a default.",
        ),
    },
    Page {
        code: "E0222",
        title: "not an address",
        text: concat!(
            "Addresses are written as in 192.0.2.7 and 2001:db8::7, blocks of them with the number of bits that count, as in\n",
            "10.20.0.0/16; bits beyond it are zero, so that nobody reads a smaller block than the one that is meant. With a\n",
            "port an address of IPv6 stands in quotes and brackets: \"[::1]:8080\".",
        ),
    },
    Page {
        code: "E0301",
        title: "two different values",
        text: concat!(
            "A statement of which there is one has two values, here or among the parents. Write `override` before the one\n",
            "that is meant, with a reason.",
        ),
    },
    Page { code: "E0302", title: "declared twice", text: "Two items have the same name." },
    Page {
        code: "E0303",
        title: "unknown profile or machine",
        text: "The name isn't declared in this file or its imports.",
    },
    Page {
        code: "E0304",
        title: "inheritance in a circle, or too long",
        text: concat!(
            "A profile extends itself, directly or through others; or the way to it is longer than 32 profiles, or it comes by so\n",
            "many ways that nobody could follow them.",
        ),
    },
    Page {
        code: "E0305",
        title: "an override needs a reason",
        text: "`override` goes past what a profile's author decided: it carries a `why`.",
    },
    Page {
        code: "E0306",
        title: "removes or overrides what isn't there",
        text: "A `remove` or `override` that hits nothing is stale or mistyped. Delete it, or correct the name. A `remove` \
               that leaves what it names granted by a wider inherited line would say what isn't so: remove that one.",
    },
    Page {
        code: "E0307",
        title: "a block can't be overridden as a whole",
        text: "Write `override` before the line inside the block.",
    },
    Page {
        code: "E0308",
        title: "a reason is required",
        text: "Host network, identity user namespaces, host devices, giving away suid, dev or no_new_privs: each needs `why`.",
    },
    Page {
        code: "E0309",
        title: "mounted twice",
        text: "Two mounts have the same place; the first would be hidden. Remove one.",
    },
    Page {
        code: "E0310",
        title: "a mount hides another",
        text: "Mounts are stacked in the order written. The outer folder comes first.",
    },
    Page {
        code: "E0313",
        title: "a waiver of nothing",
        text: "Only findings of `lint` can be waived: W0801 to W0804, and W0806.",
    },
    Page {
        code: "E0314",
        title: "a port is published twice",
        text: concat!(
            "A port of the host leads to one port of one machine. Two lines with the same port are told apart by an address on\n",
            "each of them, as in `publish tcp 127.0.0.1:8080 -> 80`.",
        ),
    },
    Page {
        code: "E0315",
        title: "limits that contradict",
        text: concat!(
            "Under the limit nothing could start, or one limit makes another useless: `memory 512MiB high=400MiB` slows a machine\n",
            "down before it is ended.",
        ),
    },
    Page {
        code: "E0316",
        title: "too many mounts, file rules, ceilings, rules for calls, or machines",
        text: "A machine has at most 512 mounts, 1,024 file rules, 32 ceilings and 50,000 rules for calls: each is held against others.\nThe machines of a file, instances included, have at most 250,000 lines together, what they inherit counted, and 100 more for\neach: some five hundred machines of one daemon.",
    },
    Page {
        code: "E0312",
        title: "an override below a ceiling",
        text: "Where a machine is `within` a ceiling, no inherited denial can be lifted: the ceiling's owner decides.",
    },
    Page {
        code: "E0311",
        title: "two errnos for the same call",
        text: "Two denials match the same call with different errnos. Denials are sticky, so neither wins: keep one.",
    },
    Page {
        code: "E0401",
        title: "unknown system call",
        text: "The name is in the table of neither x86-64 nor aarch64. Names are the kernel's (syscalls(2)).",
    },
    Page {
        code: "E0402",
        title: "unknown argument",
        text: "Arguments have the kernel's names, as in /sys/kernel/tracing/events/syscalls: socket(family, type, protocol).",
    },
    Page {
        code: "E0403",
        title: "a condition is incomplete",
        text: concat!(
            "Conditions are `== != < <= > >=`, `in [..]`, `in A..=B`, `not in [..]`, `& MASK == V`, `& MASK in [..]`,\n",
            "`has all|any|none [..]` and `only [..]`.",
        ),
    },
    Page { code: "E0404", title: "unknown errno", text: "Errnos have their C names: EPERM, ENOSYS (errno(3))." },
    Page {
        code: "E0405",
        title: "the condition can never hold",
        text: concat!(
            "The value doesn't fit what the kernel reads of the argument, or the range is empty. An `int` argument is compared\n",
            "in 32 bits because the kernel looks at no more; comparing 64 would be a hole.",
        ),
    },
    Page {
        code: "E0406",
        title: "a pointer can't be tested",
        text: concat!(
            "A filter sees the address, not what lies there. Only NULL and not NULL can be told apart. Paths are the business\n",
            "of `files` and `mounts`.",
        ),
    },
    Page {
        code: "E0407",
        title: "unknown constant",
        text: "The table has the kernel's names of the common constants; a number always works.",
    },
    Page {
        code: "E0408",
        title: "unknown group",
        text: "Import \"std/groups\" for the built-in ones; `stockade groups` lists them.",
    },
    Page { code: "E0409", title: "a group contains itself", text: "Groups may use groups, but not in a circle." },
    Page {
        code: "E0410",
        title: "a condition can be bypassed",
        text: concat!(
            "Another allowed call does the same without the condition: clone3 for clone, openat2 for openat, mprotect for\n",
            "mmap. Condition both, or deny the second; the help says how.",
        ),
    },
    Page {
        code: "E0411",
        title: "newer than the baseline",
        text: "The call came after the kernel release that the file says was reviewed. Review what was added and raise `kernel`.",
    },
    Page {
        code: "E0412",
        title: "the filter can't be made",
        text: "The program would be beyond the kernel's limit of 4096 instructions. Simplify the conditions on arguments.",
    },
    Page {
        code: "E0413",
        title: "the filter isn't proved",
        text: concat!(
            "Every program is proved to do for each call, in each ABI, what the policy says, before it is used. For this one\n",
            "there is no proof: either the generator made a wrong program (then a call is named on which they differ), or the\n",
            "conditions need more than the budget of the proof. A filter without a proof is never loaded.",
        ),
    },
    Page {
        code: "E0414",
        title: "too many comparisons",
        text: "The conditions on a call need more than 2048 masked comparisons. Narrow a range or use a mask.",
    },
    Page {
        code: "E0415",
        title: "the program can't start",
        text: concat!(
            "The filter is loaded before the program is executed, so it must allow execve and exit_group. Everything else that\n",
            "the launcher does is done before.",
        ),
    },
    Page {
        code: "E0416",
        title: "a way round the TCP ports",
        text: concat!(
            "On the host's network Landlock holds the ports: it looks at bind and connect of TCP sockets. Multipath TCP, Fast\n",
            "Open (MSG_FASTOPEN) and listen without bind reach ports past it, so the filter must close them. The library's @inet\n",
            "and @socket-io do, but for `listen`.",
        ),
    },
    Page {
        code: "E0501",
        title: "unknown capability",
        text: "Names are the kernel's without CAP_ and in small letters: net_bind_service (capabilities(7)).",
    },
    Page {
        code: "E0502",
        title: "the kernel would make other sets",
        text: concat!(
            "execve(2) computes the sets anew: uid 0 gets the bounding set, others their ambient set. What is written can't\n",
            "be. `keep` writes the sets that make a program hold a capability.",
        ),
    },
    Page {
        code: "E0503",
        title: "`root host` is read-only",
        text: "The host's own /usr is never written by a machine. Mount something writable where it is needed.",
    },
    Page {
        code: "E0504",
        title: "a bind says ro or rw",
        text: "What can be written must be visible in review, so neither is a default.",
    },
    Page { code: "E0505", title: "`/` is the root", text: "The root has its own statement." },
    Page {
        code: "E0506",
        title: "not an id",
        text: concat!(
            "Ids are plain decimal numbers; -1, 65535 and 4294967295 mean something else to the kernel. Names are looked up\n",
            "in the root's own /etc/passwd and /etc/group.",
        ),
    },
    Page {
        code: "E0507",
        title: "a map of ids can't be",
        text: "A map has at least one id, includes 0 inside, and never gives the host's root away.",
    },
    Page {
        code: "E0508",
        title: "not a variable's name",
        text: "Letters, digits and `_`, not beginning with a digit.",
    },
    Page {
        code: "E0509",
        title: "not a device",
        text: "`devices` names nodes below /dev; other files are bound in `mounts`.",
    },
    Page { code: "E0510", title: "`user` with `boot`", text: "An init system starts as root of its user namespace." },
    Page {
        code: "E0511",
        title: "`boot` without a user namespace",
        text: "An init needs CAP_SYS_ADMIN. On the host's own ids that is as good as root on the host.",
    },
    Page {
        code: "E0512",
        title: "`files` with `boot`",
        text: "While Landlock handles any file right the kernel refuses every mount(2), and an init system mounts. Use `mounts`.",
    },
    Page {
        code: "E0513",
        title: "`boot` on the host's network",
        text: "A system with its own network set-up would reconfigure the host's.",
    },
    Page { code: "E0514", title: "no effect on an init system", text: "The statement is about a single program." },
    Page {
        code: "E0515",
        title: "a reserved place",
        text: "/proc, /sys and /dev are made by Stockade for every machine; only `mask` and `hide` go there.",
    },
    Page {
        code: "E0516",
        title: "no such account",
        text: "Names are looked up in the root that the machine will see, never in the host's unless `root host`.",
    },
    Page {
        code: "E0517",
        title: "an id isn't mapped",
        text: "The user namespace doesn't have this id. Widen the map or use another id.",
    },
    Page {
        code: "E0518",
        title: "no_new_privs is needed here",
        text: concat!(
            "A filter is taken from a process that gave up gaining privileges, or that has CAP_SYS_ADMIN in its user namespace\n",
            "(seccomp(2)). `no-new-privs off` is for booted systems, which have it.",
        ),
    },
    Page {
        code: "E0519",
        title: "not with this network",
        text: concat!(
            "Each network has what can hold a statement, and what can't: the packet filter holds addresses, datagrams and\n",
            "published ports of a machine with a network of its own; on the host's network only TCP ports are held, by\n",
            "Landlock; with `none` there is nothing to reach. A published port leads to a port on which the machine may\n",
            "listen. Addresses are Stockade's with `private` and `zone`, and yours with `bridge`, `macvlan` and `ipvlan`.\n",
            "Ports from 52000 on are those by which the host speaks to others for its machines; who asks such a port can be\n",
            "answered by one of them, so they are published on loopback addresses only.",
        ),
    },
    Page {
        code: "E0521",
        title: "a files block that grants nothing",
        text: concat!(
            "With a `files` block everything that it doesn't grant is denied, the program's own execution among it: a block\n",
            "without a grant would let nothing start. Without any block the mounts alone say what is seen. So write what is\n",
            "granted, or remove the block; a machine that removes every inherited rule has none left to be held by.",
        ),
    },
    Page {
        code: "E0522",
        title: "the machine could lift its own limits",
        text: concat!(
            "With `userns identity` the machine's root is the host's, and owns the files in which limits are written. With a\n",
            "call that mounts it reaches the hierarchies of control groups, in namespaces that it makes if it has no sys_admin,\n",
            "and where they are shown `rw` it needs none. With `userns auto` the files are another's; under file rules nothing\n",
            "is mounted, and only what is shown could be made writable. Limits of processes have exceptions of the kernel:\n",
            "sys_resource lifts all, and `nproc` doesn't hold for root. They are none for who has ids of its own.",
        ),
    },
    Page {
        code: "E0523",
        title: "root by another name",
        text: "An account with user id 0 is root. What a policy grants root is said of root, so the word is written.",
    },
    Page {
        code: "E0520",
        title: "the machine could pass its own rules",
        text: concat!(
            "On a bridge, macvlan or ipvlan the packet filter stands in the machine's own network namespace. With net_admin there\n",
            "it could be taken away, and with net_raw packets pass beside it. So either the capability goes, or the policy says\n",
            "that every port is open in both directions. With `private` and `zone` the rules are the host's.",
        ),
    },
    Page {
        code: "E0601",
        title: "only root can do this here",
        text: "An ordinary user has one id. Booting systems, ranges of ids and other users' ids need root.",
    },
    Page {
        code: "E0602",
        title: "no free ids",
        text: "Every range of 65536 ids is in use by accounts, subordinate ranges or machines.",
    },
    Page {
        code: "E0603",
        title: "a capability that can't be given",
        text: "The kernel doesn't know it, or the launcher doesn't hold it itself and there is no user namespace.",
    },
    Page {
        code: "E0604",
        title: "Landlock is too old",
        text: concat!(
            "The kernel's Landlock can't enforce what is written. Nothing is enforced in part unless the policy says so with\n",
            "`require landlock N` or `optional`.",
        ),
    },
    Page {
        code: "E0605",
        title: "a path of the host",
        text: concat!(
            "The path doesn't exist, or is of the wrong kind. It is pinned by device and inode when the plan is made, and the\n",
            "launch refuses another file.",
        ),
    },
    Page {
        code: "E0606",
        title: "no cgroup v2",
        text: "A booted system needs a subtree of a cgroup v2 hierarchy; a hybrid host has one at /sys/fs/cgroup/unified.",
    },
    Page {
        code: "E0607",
        title: "no init in the root",
        text: "`boot` starts /usr/lib/systemd/systemd, /lib/systemd/systemd or /sbin/init of the root.",
    },
    Page {
        code: "E0608",
        title: "a limit can't be raised",
        text: "The launcher's own hard limit is lower, and it lacks CAP_SYS_RESOURCE.",
    },
    Page {
        code: "E0609",
        title: "the caller's groups stay",
        text: concat!(
            "An ordinary user can't drop its supplementary groups, so the machine would be in them although the policy doesn't\n",
            "say so. `user nobody groups caller` says so.",
        ),
    },
    Page {
        code: "E0610",
        title: "this host can't hold the limit",
        text: concat!(
            "A limit of a whole machine is held by a control group: cgroup v2 where the controller is there, else the older\n",
            "hierarchies. Some limits only v2 can hold (`memory ... high=`, `io weight=`), and a kernel may have been built\n",
            "without a controller. A declared limit is never left out.",
        ),
    },
    Page {
        code: "E0611",
        title: "this host can't make the network",
        text: concat!(
            "A link of its own needs nft(8) with a kernel that has nf_tables, the links that the policy names, and for `resolver\n",
            "host` a name server that isn't on the host's loopback. `stockade doctor` shows all that is missing, with the fix.",
        ),
    },
    Page {
        code: "W0001",
        title: "more findings than are shown",
        text: concat!(
            "A hundred findings are kept of one file, errors before warnings. The exit code is that of all of them. Repair what\n",
            "is shown, and ask again.",
        ),
    },
    Page {
        code: "W0602",
        title: "the host drops what is forwarded",
        text: concat!(
            "Another table of the host's packet filter drops forwarded packets by default. A machine's own rules can't lift that:\n",
            "whoever manages that table has to let `ve-*` through, or published ports and outgoing connections don't work. A filter\n",
            "table of the older iptables (iptables-legacy) isn't shown by nft(8), so it is named whatever is in it.",
        ),
    },
    Page {
        code: "W0701",
        title: "a grave grant without a reason",
        text: "The grant is powerful; write down why it is needed. `check --strict` makes this an error.",
    },
    Page {
        code: "W0801",
        title: "a grave grant without a reason",
        text: concat!(
            "`lint` grades every grant by what follows from it. One of high risk wants `why \"...\"` on its line, so that the\n",
            "next reviewer knows it was meant. `waive W0801 why \"...\"` accepts all of a machine.",
        ),
    },
    Page {
        code: "W0802",
        title: "a line that says nothing new",
        text: concat!(
            "Without this line the machine would be the same. For calls that is decided exactly, by comparing what the policy\n",
            "means with and without it; for paths and ports another line covers it.",
        ),
    },
    Page {
        code: "W0803",
        title: "a line that never takes effect",
        text: "Denials are sticky: whatever this line grants, a stricter rule refuses. Decided exactly.",
    },
    Page {
        code: "W0804",
        title: "a number that has a name",
        text: "The kernel has a name for this value of the argument. With the name a reader sees what the line is about, and `diff` and `lock` print it anyway.",
    },
    Page {
        code: "W0805",
        title: "a stale waiver",
        text: "The machine has no finding of this code any more. Delete the line.",
    },
    Page {
        code: "W0806",
        title: "whether lines say something new can't be decided",
        text: "The conditions on this call need more than the budget of the proof, so that W0802 and W0803 aren't known for its lines.",
    },
    Page {
        code: "E0810",
        title: "a lock isn't what its policy comes to",
        text: "`check --locked` compares NAME.lock with what NAME.stockade comes to now, and finds locks whose policy is gone. Review the lines that differ, then run `stockade lock` and commit the lock; delete one that locks nothing.",
    },
    Page {
        code: "E0702",
        title: "a grant has ended",
        text: "Its `until` date is past. It is an error wherever the line stands, also where another one grants the same, or takes it away.",
    },
    Page {
        code: "E0703",
        title: "an assertion fails",
        text: "The machine can do what `never` forbids, or can't do what `can` promises. The place that grants it is shown.",
    },
    Page {
        code: "E0705",
        title: "more than the ceiling",
        text: concat!(
            "A machine that is `within` a profile grants no more than it. For calls that is proved, and the message shows a call\n",
            "that the machine lets through and the ceiling doesn't. Capabilities, network, devices, user namespace and\n",
            "no_new_privs are always bounded; mounts, files, environment, limits and the rest where the ceiling names them.",
        ),
    },
    Page {
        code: "E0706",
        title: "it can't be decided",
        text: concat!(
            "The conditions on arguments need more than the budget of the proof. The machine is refused, because it isn't known\n",
            "whether it grants more than its ceiling, or what an assertion says it never does. The exit code is 3, as of a filter\n",
            "that isn't proved.",
        ),
    },
    Page {
        code: "E0704",
        title: "a test fails",
        text: "The compiled filter answers a concrete call differently than the test says.",
    },
    Page {
        code: "E0901",
        title: "not enforced by this version",
        text: concat!(
            "The statement is part of the language, but this version can't enforce it. It is refused: nothing is accepted and\n",
            "then ignored.",
        ),
    },
];

/// The page of a code.
pub fn find(code: &str) -> Option<&'static Page> {
    CODES.iter().find(|p| p.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn used(dir: &Path, out: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                used(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("codes.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for part in text.split('"').filter(|p| p.len() == 5 && p.starts_with(['E', 'W'])) {
                    if part.get(1..).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) {
                        out.insert(part.to_owned());
                    }
                }
            }
        }
    }

    #[test]
    fn every_code_that_is_used_has_a_page_and_the_reverse() {
        let mut codes = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut codes);
        let pages: BTreeSet<String> = CODES.iter().map(|p| p.code.to_owned()).collect();
        assert_eq!(codes, pages);
        assert_eq!(pages.len(), CODES.len());
    }
}
