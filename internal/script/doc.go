// Package script runs scripts in Lua as Redis 7.0 does: EVAL's language, its libraries redis,
// cjson, cmsgpack, bit and struct, what is refused, and what becomes of replies and errors. It
// knows nothing of connections, keys or types: a Run has a function that executes commands and
// returns their replies in RESP, and gets a reply in RESP.
//
// # The machine
//
// The interpreter is github.com/yuin/gopher-lua, whose language is Lua 5.1. What it does otherwise is
// set right: by the rewriter, which changes a text before it is compiled; by the metatable of
// strings, see arithmetic; and by protected, where errors are caught. All libraries are this
// package's own, since they are to answer as Redis' do, and to be bounded. A Program is compiled
// once, and any number of runs may use it at once; each has a machine of a pool for itself. What a
// machine shows to scripts cannot be changed by them: globals and libraries are empty tables, whose
// metatables show the real ones.
//
// # What bounds a run
//
// Steps and time are counted before each instruction, see meter. A library function that works on
// long strings or tables charges for it beforehand; so does pattern matching, for each step of it.
//
// Of memory, the machine's stacks are bounded by its options: maxRegisters values and maxCalls
// calls, each coroutine for itself; and coroutines resume each other no deeper than maxCoroutines.
// Strings are at most MaxString long. What tables, strings, functions and coroutines hold is added
// up while the script runs, from its stacks on, whenever the heap has grown by much: beyond
// Limits.Bytes the run ends. Five things of the interpreter would allow one instruction to take much
// memory, and are kept from it: the operator ".." becomes a call of a function, when a text is
// compiled; an assignment to t[n] makes room for n values, so it is charged before; so are the
// values that end a constructor, and those of the table arg; and unpack and the like return 8,000
// values at most.
//
// A text may be nested maxNesting deep, for the compiler calls itself; and what would take the
// compiler long, or what it would cut off, is refused: see bounds.go. A run that was ended has no
// reply, and its machine is thrown away.
//
// # Caveats
//
// Errors that the interpreter itself raises, and those of its compiler, read otherwise than Lua's,
// which name the variable: see redisText. Texts may use goto, labels and "\x41" of later Lua. The
// order of pairs is that of insertion. The operator "#" asks a table's metatable for __len, and
// "--[==" without a second "[" is refused, where it begins a comment of one line in Lua 5.1. If a
// key follows the fiftieth item of a constructor, the hundredth and so on, the items behind are set
// in the text's order, and those before it after it: at 51, {<50 items>, x=1, 'b', [51]='a'} has
// 'a', where Lua has 'b'; at 3, {<50 items>, [3]='a'} has the third item, where Lua has 'a'. The
// package sets lua.MaxArrayIndex and lua.CompatVarArg, which are the whole process's.
//
// What scripts return is compared with Redis by the conversations in api/resp/testdata/redis,
// lua.txt and scripting.txt, and by random programs, see lua_differ_test.go there. The tests here are
// about what bounds them.
package script
