// What the scenarios "types" and "catchup" measure of the CRDT libraries of JavaScript:
//
//	node rivals.mjs types LIBRARY N       maps, nested maps, lists and counters: write, encode, merge
//	node rivals.mjs catchup LIBRARY N     a copy that was away for N writes returns
//
// It prints one JSON object: {"TASK": {"us": ..., "bytes": ..., ...}}. Each task is done several times, and the median
// counts, so that what the compiler does at first does not.
import * as A from "@automerge/automerge";
import { LoroDoc, LoroMap } from "loro-crdt";
import * as Y from "yjs";
import { createHash, randomBytes } from "node:crypto";

// A library makes copies; a copy writes, and gives and takes bytes: all of it, or what another one lacks. What has
// no keys makes none: key is a function.
const libraries = {
	yjs: {
		kinds: ["map", "nested map", "list"],
		open: () => new Y.Doc(),
		write: (doc, kind, key, value) => {
			if (kind === "list") return doc.getArray("l").push([value]), doc;
			const map = doc.getMap("m");
			if (kind === "map") return map.set(key(), value), doc;
			const inner = new Y.Map();
			inner.set("name", value);
			map.set(key(), inner);
			return doc;
		},
		together: (doc, fn) => (doc.transact(() => fn(doc)), doc),
		encode: (doc) => Y.encodeStateAsUpdate(doc),
		load: (bytes) => { const doc = new Y.Doc(); Y.applyUpdate(doc, bytes); return doc; },
		since: (doc) => { const seen = Y.encodeStateVector(doc); return (later) => Y.encodeStateAsUpdate(later, seen); },
		apply: (doc, bytes) => (Y.applyUpdate(doc, bytes), doc),
		size: (doc) => doc.getMap("m").size,
		catchup: (behind, ahead) => {
			const asked = Y.encodeStateVector(behind);
			const answer = Y.encodeStateAsUpdate(ahead, asked);
			Y.applyUpdate(behind, answer);
			return { doc: behind, bytes: asked.length + answer.length, trips: 1 };
		},
	},
	loro: {
		kinds: ["map", "nested map", "list", "counter"],
		open: () => new LoroDoc(),
		write: (doc, kind, key, value) => {
			if (kind === "counter") doc.getCounter("c").increment(1);
			else if (kind === "list") doc.getList("l").push(value);
			else if (kind === "map") doc.getMap("m").set(key(), value);
			else doc.getMap("m").setContainer(key(), new LoroMap()).set("name", value);
			return doc;
		},
		together: (doc, fn) => { fn(doc); doc.commit(); return doc; },
		encode: (doc) => doc.export({ mode: "snapshot" }),
		load: (bytes) => { const doc = new LoroDoc(); doc.import(bytes); return doc; },
		since: (doc) => { const seen = doc.version(); return (later) => later.export({ mode: "update", from: seen }); },
		apply: (doc, bytes) => (doc.import(bytes), doc),
		size: (doc) => doc.getMap("m").size,
		catchup: (behind, ahead) => {
			const asked = behind.version().encode();
			const answer = ahead.export({ mode: "update", from: behind.version() });
			behind.import(answer);
			return { doc: behind, bytes: asked.length + answer.length, trips: 1 };
		},
	},
	automerge: {
		kinds: ["map", "nested map", "list", "counter"],
		open: () => A.change(A.init(), (d) => { d.m = {}; d.l = []; d.c = new A.Counter(); }),
		write: (d, kind, key, value) => {
			if (kind === "counter") d.c.increment(1);
			else if (kind === "list") d.l.push(value);
			else if (kind === "map") d.m[key()] = value;
			else d.m[key()] = { name: value };
			return d;
		},
		together: (doc, fn) => A.change(doc, (d) => { fn(d); }),
		encode: (doc) => A.save(doc),
		load: (bytes) => A.load(bytes),
		since: (doc) => { const heads = A.getHeads(doc); return (later) => A.saveSince(later, heads); },
		apply: (doc, bytes) => A.loadIncremental(doc, bytes),
		size: (doc) => Object.keys(doc.m).length,
		fresh: (doc) => A.clone(doc),
		catchup: (behind, ahead) => {
			let [here, there] = [A.initSyncState(), A.initSyncState()];
			let [bytes, trips] = [0, 0];
			for (;;) {
				let asked, answer;
				[here, asked] = A.generateSyncMessage(behind, here);
				if (asked) [ahead, there] = A.receiveSyncMessage(ahead, there, asked);
				[there, answer] = A.generateSyncMessage(ahead, there);
				if (answer) [behind, here] = A.receiveSyncMessage(behind, here, answer);
				if (!asked && !answer) return { doc: behind, bytes, trips };
				bytes += (asked?.length ?? 0) + (answer?.length ?? 0);
				trips++;
			}
		},
	},
};

const value = "x".repeat(16);
const large = () => randomBytes(48).toString("base64");
// The keys of scenario catchup, which share nothing: keyOf in internal/scenario/catchup.go is the same.
const keyOf = (i) => createHash("sha256").update(String(i)).digest().subarray(0, 12).toString("base64");
const times = 5;
const median = (all) => all.sort((a, b) => a - b)[all.length >> 1];

// timed does something several times, each with what prepare returns, and returns the median in µs and the last result.
function timed(prepare, fn) {
	const all = [];
	let last;
	for (let i = 0; i < times; i++) {
		const input = prepare();
		const began = process.hrtime.bigint();
		last = fn(input);
		all.push(Number(process.hrtime.bigint() - began) / 1000);
	}
	return [median(all), last];
}

function types(lib, n) {
	const found = {};
	for (const kind of lib.kinds) {
		const fill = (doc) => lib.together(doc, (inside) => {
			for (let i = 0; i < n; i++) lib.write(inside ?? doc, kind, () => `field:${i}`, value);
		});
		let [us, doc] = timed(() => lib.open(), fill);
		found[`${kind}: write`] = { us: us / n };
		let bytes;
		[us, bytes] = timed(() => doc, (d) => lib.encode(d));
		found[`${kind}: encode all`] = { us: us / n, bytes: bytes.length / n };
		[us] = timed(() => bytes, (b) => lib.load(b));
		found[`${kind}: merge all`] = { us: us / n };
		const deltas = [];
		for (let i = 0; i < Math.min(n / 10, 200); i++) {
			const since = lib.since(doc);
			doc = lib.together(doc, (inside) => { lib.write(inside ?? doc, kind, () => `field:${n + i}`, value); });
			deltas.push(since(doc));
		}
		[us] = timed(() => lib.load(bytes), (d) => {
			for (const delta of deltas) d = lib.apply(d, delta);
			return d;
		});
		const sum = deltas.reduce((total, delta) => total + delta.length, 0);
		found[`${kind}: merge a delta`] = { us: us / deltas.length, bytes: sum / deltas.length };
	}
	return found;
}

function catchup(lib, n) {
	let ahead = lib.open();
	ahead = lib.together(ahead, (inside) => {
		for (let i = 0; i < 1000; i++) lib.write(inside ?? ahead, "map", () => keyOf(i), large());
	});
	const before = lib.encode(ahead);
	for (let i = 0; i < n; i++) {
		ahead = lib.together(ahead, (inside) => { lib.write(inside ?? ahead, "map", () => keyOf(1000 + i), large()); });
	}
	const [us, result] = timed(() => [lib.load(before), (lib.fresh ?? ((doc) => doc))(ahead)],
		([behind, source]) => lib.catchup(behind, source));
	if (lib.size(result.doc) !== 1000 + n) throw new Error(`it has ${lib.size(result.doc)} fields after the sync`);
	return { catchup: { us, bytes: result.bytes, trips: result.trips } };
}

const [task, name, n] = process.argv.slice(2);
console.log(JSON.stringify({ types, catchup }[task](libraries[name], Number(n))));
