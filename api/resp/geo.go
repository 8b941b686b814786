package resp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/peerd/peerd/crdt"
	embedded "github.com/peerd/peerd/peer"
)

// geoUnits are the units of distances, in metres.
var geoUnits = map[string]float64{"m": 1, "km": 1000, "ft": 0.3048, "mi": 1609.34}

func (c *call) geoUnit(i int) (float64, error) {
	if unit, ok := geoUnits[strings.ToLower(c.arg(i))]; ok {
		return unit, nil
	}
	return 0, replyError("ERR unsupported unit provided. please use M, KM, FT, MI")
}

// point reads a longitude and a latitude.
func (c *call) point(i int) (p point, err error) {
	for j, to := range []*float64{&p.long, &p.lat} {
		var ok bool
		if *to, ok = parseScore(c.args[i+j]); !ok {
			return p, errNoFloat
		}
	}
	if !p.valid() {
		text := strings.NewReplacer("+Inf", "inf", "-Inf", "-inf").Replace(fmt.Sprintf("%f,%f", p.long, p.lat))
		return p, replyError("ERR invalid longitude,latitude pair " + text)
	}
	return p, nil
}

func runGeoAdd(c *call) error {
	var o zaddOptions
	first := 2
	for names := map[string]*bool{"nx": &o.nx, "xx": &o.xx, "ch": &o.ch}; first < len(c.args); first++ {
		option := names[strings.ToLower(c.arg(first))]
		if option == nil {
			break
		}
		*option = true
	}
	if (len(c.args)-first)%3 != 0 || o.nx && o.xx || first == len(c.args) {
		return errSyntax
	}
	var scores []float64
	for i := first; i < len(c.args); i += 3 {
		p, err := c.point(i)
		if err != nil {
			return err
		}
		scores = append(scores, scoreOf(p))
	}
	if err := c.zsetError(); err != nil {
		return err
	}
	return c.zaddEach(o, scores, func(i int) string { return c.arg(first + 3*i + 2) })
}

// eachPoint replies to each argument from the second on with what write writes of its point, or
// with missing.
func (c *call) eachPoint(missing func(), write func(point)) error {
	if err := c.zsetError(); err != nil {
		return err
	}
	zset := c.zset()
	c.out.array(len(c.args) - 2)
	for i := 2; i < len(c.args); i++ {
		if score, ok := zset.Score(c.arg(i)); ok {
			write(pointOf(score))
		} else {
			missing()
		}
	}
	return nil
}

func runGeoHash(c *call) error {
	return c.eachPoint(c.out.null, func(p point) { c.out.text(p.geohash()) })
}

func runGeoPos(c *call) error { return c.eachPoint(c.out.nullArray, c.out.point) }

// point writes a longitude and a latitude.
func (w *replies) point(p point) {
	w.array(2)
	for _, at := range []float64{p.long, p.lat} {
		if w.resp3 {
			w.buf = append(appendDegrees(append(w.buf, ','), at), "\r\n"...)
			continue
		}
		w.bulk(appendDegrees(nil, at))
	}
}

func runGeoDist(c *call) error {
	unit := 1.0
	switch {
	case len(c.args) > 5:
		return errSyntax
	case len(c.args) == 5:
		var err error
		if unit, err = c.geoUnit(4); err != nil {
			return err
		}
	}
	if err := c.zsetError(); err != nil {
		return err
	}
	a, ok := c.zset().Score(c.arg(2))
	b, ok2 := c.zset().Score(c.arg(3))
	if !ok || !ok2 {
		c.out.null()
		return nil
	}
	c.out.bulk(appendDistance(nil, pointOf(a).distance(pointOf(b))/unit))
	return nil
}

// geoSearch is what GEOSEARCH or its like is asked for.
type geoSearch struct {
	shape
	source            crdt.SortedSet
	exists            bool // there is one
	dist, hash, coord bool
	nearest, farthest bool // sorted so
	count             int64
	any               bool
	store             int // the argument that names where to, 0 if nowhere
	distances         bool
	from, fromMember  bool // where from was said, and so
	within            bool // how far was said
}

// geoForm is how a command says what it is asked for.
type geoForm struct {
	member bool // GEORADIUSBYMEMBER
	search bool // GEOSEARCH, with options for all
	stores bool // GEOSEARCHSTORE
	only   bool // it reads only: no STORE
}

func (f geoForm) source() int {
	if f.stores {
		return 2
	}
	return 1
}

// geoSearch reads the arguments.
func (c *call) geoSearch(f geoForm) (*geoSearch, error) {
	key := c.arg(f.source())
	if err := c.zsetErrorOf(key); err != nil {
		return nil, err
	}
	s := &geoSearch{source: c.tx.SortedSet(key), shape: shape{unit: 1}}
	s.exists = s.source.Len() > 0
	first, err := c.geoBegin(s, f)
	if err != nil {
		return nil, err
	}
	for i := first; i < len(c.args); i++ {
		more, err := c.geoOption(s, f, i)
		if err != nil {
			return nil, err
		}
		i += more
	}
	return s, c.geoCheck(s, f)
}

// geoBegin reads what stands in front of the options, and returns the first of them.
func (c *call) geoBegin(s *geoSearch, f geoForm) (first int, err error) {
	switch {
	case f.stores:
		s.store = 1
		return 3, nil
	case f.search:
		return 2, nil
	case f.member && !s.exists:
		return 5, nil
	case f.member:
		first = 5
		err = c.geoMember(s, 2)
	default:
		first = 6
		s.middle, err = c.point(2)
	}
	if err == nil {
		err = c.geoRadius(s, first-2)
	}
	return first, err
}

// geoMember has a search begin at a member.
func (c *call) geoMember(s *geoSearch, i int) error {
	score, ok := s.source.Score(c.arg(i))
	if !ok && s.exists {
		return replyError("ERR could not decode requested zset member")
	}
	s.middle = pointOf(score)
	return nil
}

func (c *call) geoRadius(s *geoSearch, i int) (err error) {
	var ok bool
	if s.radius, ok = parseScore(c.args[i]); !ok {
		return replyError("ERR need numeric radius")
	}
	if s.radius < 0 {
		return replyError("ERR radius cannot be negative")
	}
	s.unit, err = c.geoUnit(i + 1)
	return err
}

func (c *call) geoBox(s *geoSearch, i int) (err error) {
	var ok, ok2 bool
	if s.width, ok = parseScore(c.args[i]); !ok {
		return replyError("ERR need numeric width")
	}
	if s.height, ok2 = parseScore(c.args[i+1]); !ok2 {
		return replyError("ERR need numeric height")
	}
	if s.width < 0 || s.height < 0 {
		return replyError("ERR height or width cannot be negative")
	}
	s.box = true
	s.unit, err = c.geoUnit(i + 2)
	return err
}

// geoOption reads an option, and returns how many arguments are its.
func (c *call) geoOption(s *geoSearch, f geoForm, i int) (more int, err error) {
	flags := map[string]*bool{"withdist": &s.dist, "withhash": &s.hash, "withcoord": &s.coord, "any": &s.any}
	option, left := strings.ToLower(c.arg(i)), len(c.args)-i-1
	switch {
	case flags[option] != nil:
		*flags[option] = true
		return 0, nil
	case option == "asc" || option == "desc":
		s.nearest, s.farthest = option == "asc", option == "desc"
		return 0, nil
	case option == "count" && left >= 1:
		if s.count, err = c.integer(i + 1); err == nil && s.count <= 0 {
			err = replyError("ERR COUNT must be > 0")
		}
		return 1, err
	case (option == "store" || option == "storedist") && left >= 1 && !f.only && !f.search:
		s.store, s.distances = i+1, option == "storedist"
		return 1, nil
	case option == "storedist" && f.stores:
		s.distances = true
		return 0, nil
	case f.search:
		return c.geoSearchOption(s, option, i, left)
	}
	return 0, errSyntax
}

// geoSearchOption reads an option that only GEOSEARCH has.
func (c *call) geoSearchOption(s *geoSearch, option string, i, left int) (more int, err error) {
	switch {
	case option == "frommember" && left >= 1 && (!s.from || s.fromMember):
		s.from, s.fromMember = true, true
		return 1, c.geoMember(s, i+1)
	case option == "fromlonlat" && left >= 2 && !s.fromMember:
		s.from = true
		s.middle, err = c.point(i + 1)
		return 2, err
	case option == "byradius" && left >= 2 && !s.box:
		s.within = true
		return 2, c.geoRadius(s, i+1)
	case option == "bybox" && left >= 3 && (!s.within || s.box):
		s.within = true
		return 3, c.geoBox(s, i+1)
	}
	return 0, errSyntax
}

// geoCheck checks that the options fit together.
func (c *call) geoCheck(s *geoSearch, f geoForm) error {
	switch {
	case s.store > 0 && (s.dist || s.hash || s.coord):
		name := "STORE option in GEORADIUS"
		if f.stores {
			name = "GEOSEARCHSTORE"
		}
		return replyError("ERR " + name + " is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
	case f.search && !s.from:
		return replyError(fmt.Sprintf("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %s", clip(c.args[0], 128)))
	case f.search && !s.within:
		return replyError(fmt.Sprintf("ERR exactly one of BYRADIUS and BYBOX can be specified for %s", clip(c.args[0], 128)))
	case s.any && s.count == 0:
		return replyError("ERR the ANY argument requires COUNT argument")
	}
	return nil
}

// geoFound is a member that a search has found.
type geoFound struct {
	scored
	point
	distance float64
}

// errNear says that others would wait for what stores so much.
var errNear = replyError(fmt.Sprintf("ERR more than %d members are near (MaxLooks), "+
	"or %d to be stored (MaxOps): ask for them, and add them in parts", MaxLooks, embedded.MaxOps))

// find returns what is in the shape, as asked for. It looks at all that is near, or if that is
// stored at most at so many.
func (s *geoSearch) find(most int) (found []geoFound, err error) {
	full := func() bool { return s.any && int64(len(found)) >= s.count }
	looks, held := 0, 0
	for _, a := range s.areas() {
		from, to := a.scores()
		for member, score := range s.source.From(s.source.Before(from, "")) {
			if score >= to || full() {
				break
			}
			at := pointOf(score)
			if distance, in := s.holds(at); in {
				found, held = append(found, geoFound{scored{member, score}, at, distance}), held+len(member)
			}
			looks++
			switch {
			case s.store > 0 && (looks > most || s.count == 0 && len(found) > embedded.MaxOps):
				return nil, errNear
			case held > MaxReply:
				return nil, errMuchHeld
			case len(found) > MaxSort:
				return nil, replyError(fmt.Sprintf("ERR more than %d members are there (MaxSort)", MaxSort))
			}
		}
		if full() {
			break
		}
	}
	if s.nearest || s.farthest || s.count > 0 && !s.any {
		slices.SortStableFunc(found, func(a, b geoFound) int {
			if s.farthest {
				a, b = b, a
			}
			return cmp.Compare(a.distance, b.distance)
		})
	}
	if s.count > 0 {
		found = found[:min(int64(len(found)), s.count)]
	}
	for i := range found {
		found[i].distance /= s.unit
	}
	return found, nil
}

// searching returns GEOSEARCH or its like.
func searching(f geoForm) func(c *call) error {
	return func(c *call) error {
		s, err := c.geoSearch(f)
		if err != nil {
			return err
		}
		if s.store == 0 {
			found, err := s.find(MaxLooks)
			if err != nil {
				return err
			}
			return c.writeFound(s, found)
		}
		n, source := s.source.Len(), f.source()
		if c.looped && n > maxQuickArguments {
			return errApart
		}
		found, err := lookAhead(c, n, source, source+1, func() ([]geoFound, error) { return s.find(MaxLooks) })
		if err != nil {
			return err
		}
		return c.storeFound(s, found)
	}
}

func (c *call) storeFound(s *geoSearch, found []geoFound) error {
	if err := c.changing(len(found), "members"); err != nil {
		return err
	}
	made := make([]scored, len(found))
	for i, f := range found {
		if made[i] = f.scored; s.distances {
			made[i].score = f.distance
		}
	}
	return c.storeScored(c.arg(s.store), made)
}

func (c *call) writeFound(s *geoSearch, found []geoFound) error {
	at := len(c.out.buf)
	c.out.array(len(found))
	options := oneIf(s.dist) + oneIf(s.hash) + oneIf(s.coord)
	for _, f := range found {
		if options > 0 {
			c.out.array(1 + options)
		}
		c.out.text(f.member)
		if s.dist {
			c.out.bulk(appendDistance(nil, f.distance))
		}
		if s.hash {
			c.out.integer(int64(f.score))
		}
		if s.coord {
			c.out.point(f.point)
		}
		if len(c.out.buf)-at > MaxReply {
			return errReplyTooLarge
		}
	}
	return nil
}

func geoCommands() []command {
	search, searchStore := geoForm{search: true}, geoForm{search: true, stores: true}
	member := geoForm{member: true}
	return grouped("geo", []command{
		{name: "geoadd", arity: -5, keys: oneKey, run: runGeoAdd, access: accessWrite,
			summary: "Puts members of a sorted set at places on earth. Of concurrent ones the latest stays."},
		{name: "geodist", arity: -4, keys: oneKey, run: runGeoDist, access: accessRead,
			summary: "Returns how far two members are from each other."},
		{name: "geohash", arity: -2, keys: oneKey, run: runGeoHash, access: accessRead,
			summary: "Returns the places of members as geohashes."},
		{name: "geopos", arity: -2, keys: oneKey, run: runGeoPos, access: accessRead,
			summary: "Returns the places of members."},
		{name: "geosearch", arity: -7, keys: oneKey, run: searching(search), access: accessScan,
			summary: "Returns the members within a radius or a box."},
		{name: "geosearchstore", work: workOfKeys, arity: -8, keys: twoKeys, run: searching(searchStore), access: accessWrite,
			summary: "Stores the members within a radius or a box."},
		storing(6, command{name: "georadius", arity: -6, run: searching(geoForm{}),
			summary: "Returns or stores the members within a radius of a place."}),
		storing(5, command{name: "georadiusbymember", arity: -5, run: searching(member),
			summary: "Returns or stores the members within a radius of one of them."}),
		{name: "georadius_ro", arity: -6, keys: oneKey, run: searching(geoForm{only: true}), access: accessScan,
			summary: "Returns the members within a radius of a place."},
		{name: "georadiusbymember_ro", arity: -5, keys: oneKey, run: searching(geoForm{member: true, only: true}),
			access: accessScan, summary: "Returns the members within a radius of one of them."},
	})
}

// storing completes a command that only reads if there is no STORE among its arguments, whose
// options begin with one of them.
func storing(options int, cmd command) command {
	cmd.keys, cmd.work = oneKey, workOfKeys
	reading := cmd
	reading.access, reading.group = accessScan, "geo"
	cmd.access, cmd.reading, cmd.find = accessWrite, &reading, foundInto(options)
	return cmd
}

// foundInto returns what finds the key that GEORADIUS stores to, behind so many arguments.
func foundInto(options int) func(args [][]byte) [][]byte {
	return func(args [][]byte) (keys [][]byte) {
		for i := options; i < len(args)-1; i++ {
			if namesStore(args[i]) {
				i++
				keys = args[i : i+1]
			}
		}
		return keys
	}
}
