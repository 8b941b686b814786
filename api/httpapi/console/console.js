'use strict';

// Everything shown is set as text, never as markup: names, keys and values come from other hosts.

const REFRESH = 2000; // milliseconds between two looks at the hosts
const PATIENCE = 5000; // milliseconds until a host that does not answer is called away
const PAGE = 25; // keys listed at once
const MEMBERS = 50; // members of a set or map that are shown
const BRIEF = 256 * 1024; // bytes of an answer that are loaded for a key that nobody has opened
const FEED = 100; // changes that are kept
const HOUR = 3600 * 1000; // milliseconds
const NONE = '–'; // what is not known

const $ = (id) => document.getElementById(id);
const text = (id, value) => { $(id).textContent = value; };
const count = (n) => Number(n).toLocaleString('en');
const known = (value) => value !== null && value !== undefined;

// el makes an element with properties and children; strings become text.
function el(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// legible shows characters that would act on the text around them, or not be seen, as what they are.
function legible(raw, lines) {
  return raw.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (c) => (
    lines && (c === '\n' || c === '\t') ? c : '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0')));
}

function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return (unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + ' ' + units[unit];
}

function span(seconds) {
  if (seconds < 60) return Math.round(seconds) + ' s';
  if (seconds < 3600) return Math.floor(seconds / 60) + ' min';
  if (seconds < 86400) return Math.floor(seconds / 3600) + ' h';
  return Math.floor(seconds / 86400) + ' d';
}

const ago = (when) => span(Math.max(0, (Date.now() - new Date(when)) / 1000));
const clock = (when) => new Date(when).toLocaleTimeString('en-GB');
const pill = (kind, label) => el('span', { className: 'pill ' + kind }, label);

// fill puts rows into a table's body: each is an array of texts and nodes, labelled as the columns are.
function fill(id, rows) {
  $(id).replaceChildren(...rows.map((cells) => row($(id), cells)));
}

function row(body, cells) {
  const heads = body.parentElement.querySelectorAll('thead th');
  return el('tr', {}, ...cells.map((cell, i) => {
    const td = el('td', { className: heads[i].className }, el('div', {}, ...[cell].flat()));
    td.dataset.label = heads[i].textContent;
    return td;
  }));
}

// ask sends a request and returns the answer, of so many bytes, or throws what to tell a person.
async function ask(path, options, most = Infinity) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE), ...options });
  const body = JSON.parse(await read(answer.body.getReader(), most));
  if (answer.status === 401) throw new Error('the password is asked for: load this page again');
  if (!answer.ok) throw Object.assign(new Error(body.detail), { code: body.code });
  return body;
}

async function read(reader, most) {
  const parts = [];
  let size = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    size += part.value.length;
    if (size > most) {
      await reader.cancel(); // the host sends no more
      throw Object.assign(new Error(`more than ${bytes(most)}: open the key to load it`), { code: 'cut' });
    }
  }
  return new Blob(parts).text();
}

// Hosts

const behind = new Map(); // seconds, by peer id

function stateOf(m) {
  if (!m.alive) return [pill('bad', 'away'), el('small', {}, 'for ' + ago(m.since))];
  if (m.problem) return [pill('warn', 'no link'), el('small', {}, legible(m.problem))];
  if (!m.linked) return [pill('warn', 'no link'), el('small', {}, 'alive for ' + ago(m.since))];
  const problems = (m.told?.problems || []).map(legible).join(', ');
  const named = problems && el('small', {}, 'problems: ' + problems);
  if (m.told && !m.told.ready) return [pill('warn', 'linked, not ready'), el('small', {}, legible(m.told.reason || '')), named];
  return problems ? [pill('warn', 'linked, with problems'), named] : pill('good', 'linked');
}

function diskOf(told) {
  if (!told) return NONE;
  return told.free_bytes ? [bytes(told.store_bytes), el('small', {}, bytes(told.free_bytes) + ' free')] : bytes(told.store_bytes);
}

const lacks = (m, n) => (m.alive && m.linked && known(n) ? count(n) + (n === 1 ? ' write' : ' writes') : NONE);

function hostRow(m) {
  const seconds = behind.get(m.peer_id);
  const measured = m.alive && m.clock_error_ms > 0;
  const offset = `${m.clock_offset_ms > 0 ? '+' : ''}${Math.round(m.clock_offset_ms)} ms`;
  return [
    [el('b', {}, legible(m.name)), el('small', {}, legible(m.addr))], stateOf(m), lacks(m, m.they_lack),
    m.alive && m.linked && known(seconds) ? span(seconds) : NONE, lacks(m, m.we_lack),
    measured ? [offset, el('small', {}, `± ${Math.ceil(m.clock_error_ms)} ms`)] : NONE,
    m.alive && m.rtt_ms ? m.rtt_ms.toFixed(1) + ' ms' : NONE, diskOf(m.told), legible(m.told?.version || NONE),
  ];
}

function ownRow(s, problems) {
  const state = !s.ready ? pill('bad', 'not ready') : problems.length ? pill('warn', 'problems') : pill('good', 'ready');
  return [
    [el('b', {}, legible(s.name)), el('small', {}, 'this host')], state, NONE, NONE, NONE,
    s.clock_wrong ? pill('bad', 'off') : NONE, NONE, diskOf(s), legible(s.version || NONE),
  ];
}

function repairOf(of, members) {
  const r = of.repairing;
  const from = (members.find((m) => m.peer_id === r.from) || { name: r.from }).name;
  const far = r.of ? `${count(r.cells)} of ${count(r.of)} cells, ` : '';
  const left = r.seconds_left ? `, ${Math.ceil(r.seconds_left)} s left` : '';
  return legible(`Space ${of.space} is repaired from ${from}: ${far}${bytes(r.bytes)}${left}.`);
}

function showState(kind, label) {
  document.body.className = kind;
  if ($('state').textContent === label) return; // not to be read out again
  $('state').className = 'pill ' + kind;
  text('state', label);
}

// A colour for a hash, so that two pages side by side can be compared at a glance.
function colour(id, hash) {
  $(id).style.backgroundColor = `hsl(${parseInt(hash.slice(0, 6), 16) % 360} 65% 50%)`;
}

function show(s) {
  const problems = s.problems;
  document.title = legible(s.name) + ' · peerd';
  text('name', legible(s.name));
  if (!s.ready) showState('bad', 'not ready: ' + legible(s.reason || ''));
  else if (problems.length) showState('warn', 'ready, with problems');
  else showState('good', 'ready');
  $('problems').hidden = problems.length === 0;
  $('problem-list').replaceChildren(...problems.map((p) => (
    el('li', {}, legible(p.what) + (p.since ? ` (for ${ago(p.since)})` : ''), el('span', {}, legible(p.do || ''))))));
  const repairs = s.spaces.filter((of) => of.repairing).map((of) => repairOf(of, s.members));
  $('repairs').hidden = repairs.length === 0;
  text('repairs', repairs.join(' '));
  fill('host-list', [ownRow(s, problems), ...s.members.map(hostRow)]);
  $('alone').hidden = s.members.length > 0;
  showSpaces(s.spaces.map((of) => of.space));
  showVector(s);
}

function showVector(s) {
  text('peer-id', s.peer_id);
  text('gossip', s.gossip_addr || 'offline');
  text('context', s.context_hash);
  text('root', s.root);
  colour('context-colour', s.context_hash);
  colour('root-colour', s.root);
  const names = new Map(s.members.filter((m) => m.told).map((m) => [m.told.replica, m.name]));
  names.set(s.replica, s.name);
  const entries = Object.entries(s.version_vector).map(([id, n]) => [names.get(id), id, n]);
  entries.sort(([a, x], [b, y]) => (known(b) - known(a)) || (a || x).localeCompare(b || y));
  fill('vector-list', entries.map(([name, id, n]) => (
    [known(name) ? legible(name) : 'an earlier start of a host', el('code', {}, id), count(n)])));
}

function showSpaces(names) {
  const select = $('space');
  const now = [...select.options].map((o) => o.value);
  if (now.length === names.length && now.every((name, i) => name === names[i])) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => el('option', { value: name }, legible(name))));
  select.value = names.includes(chosen) ? chosen : names[0] || '';
}

// The last hour

const samples = [];
const charts = [
  { name: 'Operations a second', of: (s) => s.operations, as: (n) => n.toFixed(n < 10 ? 1 : 0) },
  { name: '99 in 100 took at most', of: (s) => s.p99_ms, as: (n) => n.toFixed(n < 10 ? 2 : 0) + ' ms' },
  { name: 'Replication lag', of: (s) => s.lag_seconds, as: (n) => n.toFixed(n < 10 ? 1 : 0) + ' s' },
  { name: 'Data on disk', of: (s) => s.store_bytes, as: bytes },
];

// line returns a path over an hour 360 wide and 60 high, with gaps where nothing is known.
function line(of, most, now) {
  let path = '';
  let pen = 'M';
  for (const s of samples) {
    if (!known(of(s))) { pen = 'M'; continue; }
    const x = 360 * (1 - (now - new Date(s.at)) / HOUR);
    const y = 57 - 54 * (of(s) / most);
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}` + (pen === 'M' ? 'h.1' : '');
    pen = 'L';
  }
  return path;
}

function chart({ name, of, as }, now) {
  const values = samples.map(of).filter(known);
  const last = samples.length ? of(samples[samples.length - 1]) : null;
  const svg = $('chart').content.firstChild.cloneNode(true);
  const most = Math.max(...values, 0);
  const told = values.length ? `at most ${as(most)} in the last hour` : 'nothing is known yet';
  svg.setAttribute('aria-label', `${name}: ${told}`);
  svg.firstChild.setAttribute('d', line(of, most || 1, now));
  return el('figure', {}, el('figcaption', {}, name, el('b', {}, known(last) ? as(last) : NONE)), svg,
    el('div', { className: 'faint' }, told));
}

async function refreshHour() {
  const since = samples.length ? '?since=' + encodeURIComponent(samples[samples.length - 1].at) : '';
  const told = await ask('v1/history' + since);
  samples.push(...told.samples);
  const now = samples.length ? new Date(samples.at(-1).at) : 0; // by the host's clock: this one's may be off
  while (samples.length && now - new Date(samples[0].at) > HOUR) samples.shift();
  for (const m of told.behind) behind.set(m.peer_id, m.seconds);
  $('charts').replaceChildren(...charts.map((one) => chart(one, now)));
}

// Keys

const named = (octets) => (typeof octets === 'string' ? octets : 'base64:' + octets.base64);
const idOf = (octets) => JSON.stringify(octets);

// inURL returns the form of a byte string in a URL.
function inURL(octets) {
  if (typeof octets === 'string') return encodeURIComponent(octets);
  return [...atob(octets.base64)].map((c) => '%' + c.charCodeAt(0).toString(16).padStart(2, '0')).join('');
}

// What is listed; since is the token up to which changes were told.
const listed = { space: '', prefix: '', cursor: '', since: '', rows: new Map(), asking: false };

function place(path, query) {
  const fields = path.slice(1).map((name) => '&path=' + inURL(name)).join('');
  return `v1/keys/${inURL(path[0])}?space=${encodeURIComponent(listed.space)}${fields}${query}`;
}

// What a value has of its own, by its type; fields apart.
const HELD = ['value', 'enabled', 'elements', 'scores', 'items', 'entries', 'bytes', 'registers'];

// plain returns a value as PUT takes it: what is shown, without what is beside it.
function plain(v) {
  const out = { type: v.type };
  for (const member of HELD) if (known(v[member])) out[member] = v[member];
  if (v.fields) out.fields = v.fields.map((f) => ({ name: f.name, ...plain(f) }));
  return out;
}

// doubled returns the fields of a map that have several types, by name.
function doubled(fields) {
  const seen = new Map();
  for (const f of fields) seen.set(idOf(f.name), [...(seen.get(idOf(f.name)) || []), f]);
  return seen;
}

// variants returns what a place could be settled as, if there is more than one.
function variants(types) {
  const all = types.flatMap((v) => (v.values && v.values.length ? v.values.map((value) => ({ type: v.type, value })) : [v]));
  return all.length > 1 ? all : [];
}

function inConflict(types) {
  return variants(types).length > 0
    || types.some((v) => v.fields && [...doubled(v.fields).values()].some((all) => inConflict(all)));
}

// What is shown of a type that is none of those below.
const UNKNOWN = 'of a type that this console does not know';

function summary(v) {
  const clip = (s) => (s.length > 120 ? s.slice(0, 120) + '…' : s);
  if (v.type === 'string') return clip(legible(named(v.value)));
  if (v.type === 'bitmap') return clip(legible(named(v.bytes)));
  if (v.type === 'hyperloglog') return `about ${v.count} elements`;
  if (v.type === 'flag') return v.enabled ? 'enabled' : 'disabled';
  if (v.type === 'sorted-set') {
    const shown = v.scores.map((s) => `${legible(named(s.element))} ${s.score}`);
    return clip(`${count(shown.length)}${v.cursor ? ' and more' : ''}: ${shown.join(', ')}`);
  }
  if (v.type === 'stream') return `${count(v.entries.length)}${v.cursor ? ' and more' : ''} entries`;
  if (v.type === 'list') {
    return clip(`${count(v.items.length)}${v.cursor ? ' and more' : ''}: ${v.items.map((i) => legible(named(i))).join(', ')}`);
  }
  if (v.type !== 'set' && v.type !== 'map') return UNKNOWN;
  const names = v.type === 'set' ? v.elements : v.fields.map((f) => f.name);
  return clip(`${count(names.length)}${v.cursor ? ' and more' : ''}: ${names.map((n) => legible(named(n))).join(', ')}`);
}

// whole shows a value of one type, with what is in it.
function whole(path, v) {
  if (v.type === 'set') {
    return el('ul', { className: 'tree' }, ...v.elements.map((e) => el('li', { className: 'mono' }, legible(named(e)))));
  }
  if (v.type === 'sorted-set') {
    return el('ul', { className: 'tree' }, ...v.scores.map((s) => (
      el('li', { className: 'mono' }, `${legible(named(s.element))} ${s.score}`))));
  }
  if (v.type === 'list') {
    return el('ol', { className: 'tree' }, ...v.items.map((i) => el('li', { className: 'mono' }, legible(named(i)))));
  }
  if (v.type === 'stream') {
    return el('ul', { className: 'tree' }, ...v.entries.map((e) => (
      el('li', { className: 'mono' }, el('code', {}, e.id), ' ', e.fields.map((f) => legible(named(f))).join(' ')))));
  }
  if (v.type === 'map') {
    return el('ul', { className: 'tree' }, ...[...doubled(v.fields).values()].map((all) => (
      el('li', {}, el('code', {}, legible(named(all[0].name))), ': ', there([...path, all[0].name], all)))));
  }
  return el('span', { className: 'text mono' }, v.type === 'string' ? legible(named(v.value), true) : summary(v));
}

// there shows what is at a place: one value, or each with a button that keeps it.
function there(path, types) {
  const choices = variants(types);
  if (choices.length === 0) return whole(path, types[0]);
  const box = el('div', {}, pill('warn', `${choices.length} concurrent values`));
  box.append(el('ol', { className: 'choices' }, ...choices.map((v) => {
    const keep = el('button', { type: 'button' }, 'Keep this one');
    keep.setAttribute('aria-label', `Keep ${v.type} ${summary(v)}`);
    keep.addEventListener('click', () => settle(path, v, box));
    const refused = (v.cursor && 'too large to be kept here: ') || (v.type === 'stream' && 'kept here it would lose its groups: ')
      || (summary(v) === UNKNOWN && 'it cannot be kept here: ')
      || (inConflict([v]) && 'settle first what is in it: '); // or all but one of that would be lost unseen
    return el('li', {}, refused ? el('span', { className: 'faint' }, refused) : keep, v.type + ' ', whole(path, v));
  })));
  return box;
}

// settle stores one of the concurrent values in place of all. A key expires when it would have.
async function settle(path, v, box) {
  const one = listed.rows.get(idOf(path[0]));
  const kept = plain(v);
  if (path.length === 1 && one.expires) kept.expires = one.expires;
  for (const button of box.querySelectorAll('button')) button.disabled = true;
  const name = path.map((p) => legible(named(p))).join(' › ');
  try {
    await ask(place(path, ''), {
      method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(kept),
    });
    text('settled', `${name} holds one value now: ${summary(v)}`);
  } catch (error) {
    text('settled', `${name} is not settled: ${legible(error.message)}`);
  }
  await one.refresh();
  one.button.focus();
}

// oneAtATime returns a function that does something, or once more when it is done: a key may change faster than it can be
// asked for. It resolves when a doing has ended that began after the call.
function oneAtATime(fn) {
  let running = null;
  let next = null;
  const begin = () => {
    next = null;
    running = fn().finally(() => { running = null; });
    return running;
  };
  return () => {
    if (running) next ??= running.then(begin);
    return next ?? begin();
  };
}

// keyRow makes the row of a key. Its button opens all that the key holds.
function keyRow(key) {
  const button = el('button', { type: 'button', className: 'key' }, legible(named(key)) || '(the empty key)');
  const tr = row($('key-list'), [button, '…', '…']);
  const td = el('td', { className: 'detail', colSpan: 3 });
  const detail = el('tr', { hidden: true }, td);
  const cell = (i, ...nodes) => tr.children[i].firstChild.replaceChildren(...nodes);
  button.setAttribute('aria-expanded', 'false');
  button.addEventListener('click', () => {
    detail.hidden = !detail.hidden;
    button.setAttribute('aria-expanded', String(!detail.hidden));
    if (one.cut && !detail.hidden) refresh();
  });
  const refresh = oneAtATime(async () => {
    try {
      if (key === '.' || key === '..') throw new Error('a browser cannot ask for this key: use peerd get');
      const e = await ask(place([key], `&conflicts=true&limit=${MEMBERS}`), {}, detail.hidden ? BRIEF : Infinity);
      one.cut = false;
      const types = [e, ...(e.also || [])];
      one.expires = e.expires;
      cell(1, types.map((v) => v.type).join(', '));
      const until = e.expires ? [el('span', { className: 'faint' }, ` until ${new Date(e.expires).toLocaleString()}`)] : [];
      cell(2, el('span', { className: 'mono text' }, summary(e)), ...until, ...(inConflict(types) ? [' ', pill('warn', 'conflict')] : []));
      td.replaceChildren(there([key], types), ...(e.cursor ? [el('p', { className: 'faint' }, 'and more')] : []));
    } catch (error) {
      one.cut = error.code === 'cut';
      cell(1, NONE);
      cell(2, error.code === 'not-found' ? 'deleted' : legible(error.message));
      td.replaceChildren();
    }
  });
  const one = { key, button, rows: [tr, detail], expires: undefined, cut: false, refresh };
  return one;
}

async function list(more) {
  if (!more) {
    Object.assign(listed, {
      space: $('space').value || 'default', prefix: $('prefix').value, cursor: '', since: '', rows: new Map(), asking: false,
    });
    text('settled', '');
    $('key-list').replaceChildren(); // its buttons are of what was listed before
    unfollow();
  }
  if (listed.asking) return; // for these already
  const { rows } = listed;
  listed.asking = true;
  try {
    const page = await ask(`v1/keys?space=${encodeURIComponent(listed.space)}&limit=${PAGE}`
      + `&prefix=${encodeURIComponent(listed.prefix)}&cursor=${encodeURIComponent(listed.cursor)}`);
    if (rows !== listed.rows) return; // something else was asked for meanwhile
    listed.asking = false;
    if (!more) follow(page.token); // what is read from now on may be newer
    const made = page.keys.map(({ key }) => keyRow(key));
    for (const one of made) rows.set(idOf(one.key), one);
    $('key-list').append(...made.flatMap((one) => one.rows));
    listed.cursor = page.cursor || '';
    $('more').hidden = !listed.cursor;
    $('no-keys').hidden = rows.size > 0;
    await Promise.all(made.map((one) => one.refresh()));
  } catch (error) {
    if (rows !== listed.rows) return;
    listed.asking = false;
    text('settled', legible(error.message));
    if (!more) follow();
  }
}

// openKey lists what begins as a key, and opens it.
async function openKey(key) {
  $('prefix').value = key;
  await list(false);
  const one = listed.rows.get(idOf(key));
  if (!one) return;
  if (one.rows[1].hidden) one.button.click();
  one.button.focus();
}

// Changes

let feed = null;

function unfollow() {
  if (feed) feed.close();
  feed = null;
}

// follow begins to watch what is listed, unless it is paused or nobody looks: from a token on, or else from now.
function follow(since = listed.since) {
  unfollow();
  listed.since = since;
  const paused = $('pause').getAttribute('aria-pressed') === 'true';
  const of = `space ${legible(listed.space)}` + (listed.prefix ? `, keys that begin with ${legible(listed.prefix)}` : '');
  text('feed-state', paused ? 'paused' : `of ${of}`);
  if (paused || document.hidden) return;
  const own = new EventSource(`v1/watch?space=${encodeURIComponent(listed.space)}&prefix=${encodeURIComponent(listed.prefix)}`
    + (since && `&since=${encodeURIComponent(since)}`));
  own.addEventListener('change', (event) => told(event, note));
  own.addEventListener('reset', (event) => {
    told(event, note);
    refreshListed(); // what was deleted is not named
  });
  own.addEventListener('error', () => {
    text('feed-state', 'the connection is lost: trying again');
    if (own.readyState === EventSource.CLOSED) setTimeout(() => own === feed && follow(''), PATIENCE); // it was refused
  });
  own.addEventListener('open', (event) => {
    text('feed-state', `of ${of}`);
    if (!event.data) return; // the connection is there, and the watch will be
    if (!listed.since) refreshListed(); // what changed before is not told
    told(event);
  });
  feed = own;
}

// told takes an event of a watch: from there on a later one tells the rest.
function told(event, show = () => {}) {
  listed.since = event.lastEventId;
  show(JSON.parse(event.data).keys);
}

function refreshListed() {
  for (const one of listed.rows.values()) one.refresh();
}

function note(keys) {
  const shown = keys.slice(0, 20).map((key) => {
    if (typeof key !== 'string') return el('code', {}, named(key));
    const button = el('button', { type: 'button', className: 'key' }, legible(key) || '(the empty key)');
    button.addEventListener('click', () => openKey(key));
    return button;
  });
  const rest = keys.length > shown.length ? [`and ${count(keys.length - shown.length)} more`] : [];
  $('feed').prepend(el('li', {}, el('time', { className: 'faint' }, clock(Date.now())), ...shown, ...rest));
  while ($('feed').children.length > FEED) $('feed').lastChild.remove();
  for (const key of keys) listed.rows.get(idOf(key))?.refresh();
}

// Clients

async function refreshClients() {
  const c = await ask('v1/clients');
  const rest = c.connected > c.clients.length ? `, the latest ${c.clients.length} of them here` : '';
  text('connected', `${count(c.connected)} connected${rest}`);
  fill('client-list', c.clients.map((one) => [legible(one.address), legible(one.name) || NONE, ago(one.since), bytes(one.held_bytes)]));
  fill('slow-list', c.slow.map((e) => [
    clock(e.at), legible(e.command), e.key === null ? NONE : el('code', {}, legible(named(e.key))),
    (e.took_ms < 10 ? e.took_ms.toFixed(1) : count(Math.round(e.took_ms))) + ' ms',
    legible(e.client_name || e.client)]));
  $('no-slow').hidden = c.slow.length > 0;
}

let looking = false;

// look asks for everything but keys, and shows it.
async function look() {
  if (looking) return;
  looking = true;
  try {
    await refreshHour();
    show(await ask('v1/status'));
    await refreshClients();
  } catch (error) {
    showState('bad', 'no answer: ' + legible(error.message));
    for (const old of document.querySelectorAll('#host-list .pill')) old.replaceWith(pill('', 'not known'));
  }
  looking = false;
}

// refresh looks again and again, while somebody sees it.
async function refresh() {
  if (!document.hidden) await look();
  setTimeout(refresh, REFRESH);
}

$('listing').addEventListener('submit', (event) => { event.preventDefault(); list(false); });
$('more').addEventListener('click', () => list(true));
$('space').addEventListener('change', () => list(false));
$('pause').addEventListener('click', () => {
  const paused = $('pause').getAttribute('aria-pressed') !== 'true';
  $('pause').setAttribute('aria-pressed', String(paused));
  follow();
});
document.addEventListener('visibilitychange', () => {
  follow();
  if (!document.hidden) look();
});
look().then(() => list(false)).then(refresh);
