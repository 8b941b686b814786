package resp

import (
	"math"
	"strconv"
	"strings"
)

// A point on earth is a score of a sorted set as Redis has it: 52 bits, of which the odd ones, from
// the highest on, halve the longitudes again and again and the even ones the latitudes that
// Mercator's projection shows. Places that are near each other mostly have scores that are.

const (
	geoSteps     = 26 // halvings of each
	mostLat      = 85.05112878
	mostLong     = 180
	earthRadius  = 6372797.560856 // metres
	mercatorHalf = 20037726.37    // metres around half of the earth
)

// point is one on earth, in degrees.
type point struct{ long, lat float64 }

func (p point) valid() bool { return math.Abs(p.long) <= mostLong && math.Abs(p.lat) <= mostLat }

// area is a part of the earth: the bits of what is in it, after so many halvings of each.
type area struct {
	bits uint64
	step int
}

// areaOf returns the one that a point is in; most is the latitude at which the poles are.
func areaOf(p point, step int, most float64) area {
	fraction := func(at, most float64) uint32 {
		return uint32(uint64((at + most) / (2 * most) * float64(uint64(1)<<step)))
	}
	return area{spread(fraction(p.lat, most)) | spread(fraction(p.long, mostLong))<<1, step}
}

// spread puts the bits of a number at the even places of another.
func spread(x uint32) (bits uint64) {
	for i := range 32 {
		bits |= uint64(x>>i&1) << (2 * i)
	}
	return bits
}

// gather undoes spread.
func gather(bits uint64) (x uint32) {
	for i := range 32 {
		x |= uint32(bits>>(2*i)&1) << i
	}
	return x
}

// bounds returns the south-western and the north-eastern corner.
func (a area) bounds() (least, most point) {
	at := func(x uint32, end uint64, bound float64) float64 {
		return -bound + float64(uint64(x)+end)/float64(uint64(1)<<a.step)*(2*bound)
	}
	long, lat := gather(a.bits>>1), gather(a.bits)
	return point{at(long, 0, mostLong), at(lat, 0, mostLat)}, point{at(long, 1, mostLong), at(lat, 1, mostLat)}
}

// scores returns those of all points in the area: from the first to less than the second.
func (a area) scores() (from, to float64) {
	shift := 2 * (geoSteps - a.step)
	return float64(a.bits << shift), float64((a.bits + 1) << shift)
}

// moved returns the area that is so many to the east and to the north; beyond an end it is at the
// other. Places at the very end of the map, east or north, are in areas beyond the last, one for
// each row or column: who moves along the end stays there.
func (a area) moved(east, north int) area {
	turn := func(x uint32, by int) uint32 {
		if by == 0 {
			return x
		}
		return (x + uint32(by)) & (1<<a.step - 1)
	}
	return area{spread(turn(gather(a.bits), north)) | spread(turn(gather(a.bits>>1), east))<<1, a.step}
}

func scoreOf(p point) float64 { return float64(areaOf(p, geoSteps, mostLat).bits) }

// pointOf returns the middle of the smallest area, which a score stands for.
func pointOf(score float64) point {
	least, most := area{uint64(score), geoSteps}.bounds()
	within := func(x, bound float64) float64 { return max(-bound, min(bound, x)) }
	return point{within((least.long+most.long)/2, mostLong), within((least.lat+most.lat)/2, mostLat)}
}

// geohash returns the point as the usual text of 11 characters, of which the last has no bits.
func (p point) geohash() string {
	const digits = "0123456789bcdefghjkmnpqrstuvwxyz"
	bits := areaOf(p, geoSteps, 90).bits
	var text strings.Builder
	for i := 1; i <= 10; i++ {
		text.WriteByte(digits[bits>>(2*geoSteps-5*i)&31])
	}
	return text.String() + "0"
}

func radians(degrees float64) float64 { return degrees * (math.Pi / 180) }

func degrees(radians float64) float64 { return radians / (math.Pi / 180) }

// distance returns how far two points are from each other along the earth, in metres: by the
// haversine.
func (p point) distance(o point) float64 {
	v := math.Sin((radians(o.long) - radians(p.long)) / 2)
	if v == 0 {
		return latDistance(p.lat, o.lat)
	}
	u := math.Sin((radians(o.lat) - radians(p.lat)) / 2)
	a := u*u + math.Cos(radians(p.lat))*math.Cos(radians(o.lat))*v*v
	return 2 * earthRadius * math.Asin(math.Sqrt(a))
}

func latDistance(a, b float64) float64 { return earthRadius * math.Abs(radians(b)-radians(a)) }

// shape is where to search: around a point, within a radius or a box of some height and width, in a
// unit of so many metres.
type shape struct {
	middle        point
	radius        float64
	box           bool
	width, height float64
	unit          float64
}

// holds reports whether a point is in the shape, and how far it is from its middle, in metres.
func (s *shape) holds(p point) (distance float64, in bool) {
	if s.box {
		if latDistance(p.lat, s.middle.lat) > s.height*s.unit/2 ||
			p.distance(point{s.middle.long, p.lat}) > s.width*s.unit/2 {
			return 0, false
		}
		return s.middle.distance(p), true
	}
	distance = s.middle.distance(p)
	return distance, distance <= s.radius*s.unit
}

// bounds returns the corners of what the shape is in.
func (s *shape) bounds() (least, most point) {
	height, width := s.radius*s.unit, s.radius*s.unit
	if s.box {
		height, width = s.height/2*s.unit, s.width/2*s.unit
	}
	lat := degrees(height / earthRadius)
	nearest := s.middle.lat + lat // where degrees of longitude are shortest
	if s.middle.lat < 0 {
		nearest = s.middle.lat - lat
	}
	long := degrees(width / earthRadius / math.Cos(radians(nearest)))
	return point{s.middle.long - long, s.middle.lat - lat}, point{s.middle.long + long, s.middle.lat + lat}
}

// steps returns after how many halvings an area and its neighbours about hold the shape.
func (s *shape) steps() int {
	metres := s.radius
	if s.box {
		metres = math.Sqrt(s.width/2*(s.width/2) + s.height/2*(s.height/2))
	}
	metres *= s.unit
	if metres == 0 {
		return geoSteps
	}
	step := -1
	for ; metres < mercatorHalf; metres *= 2 {
		step++
	}
	switch lat := math.Abs(s.middle.lat); { // degrees of longitude are shorter towards the poles
	case lat > 80:
		step -= 2
	case lat > 66:
		step--
	}
	return max(1, min(geoSteps, step))
}

// areas returns those in which the shape is: that of its middle, and of its eight neighbours those
// that it reaches, in the order in which Redis goes through them.
func (s *shape) areas() []area {
	least, most := s.bounds()
	middle := areaOf(s.middle, s.steps(), mostLat)
	if middle.step > 1 && !middle.surrounds(least, most) {
		middle = areaOf(s.middle, middle.step-1, mostLat)
	}
	from, to := middle.bounds()
	areas := []area{middle}
	for _, d := range [...]struct{ east, north int }{{0, 1}, {0, -1}, {1, 0}, {-1, 0}, {1, 1}, {-1, 1}, {1, -1}, {-1, -1}} {
		needless := d.north < 0 && from.lat < least.lat || d.north > 0 && to.lat > most.lat ||
			d.east < 0 && from.long < least.long || d.east > 0 && to.long > most.long
		if middle.step >= 2 && needless {
			continue
		}
		next := middle.moved(d.east, d.north)
		if len(areas) > 1 && next == areas[len(areas)-1] { // as there are no more
			continue
		}
		areas = append(areas, next)
	}
	return areas
}

// surrounds reports whether the area and its neighbours hold all between two corners.
func (a area) surrounds(least, most point) bool {
	_, north := a.moved(0, 1).bounds()
	south, _ := a.moved(0, -1).bounds()
	_, east := a.moved(1, 0).bounds()
	west, _ := a.moved(-1, 0).bounds()
	return north.lat >= most.lat && south.lat <= least.lat && east.long >= most.long && west.long <= least.long
}

// appendDistance appends a distance with four digits behind the point.
func appendDistance(b []byte, distance float64) []byte {
	return strconv.AppendFloat(b, math.RoundToEven(distance*1e4)/1e4, 'f', 4, 64)
}

// appendDegrees appends a coordinate with up to 17 digits behind the point.
func appendDegrees(b []byte, at float64) []byte {
	text := strconv.FormatFloat(at, 'f', 17, 64)
	return append(b, strings.TrimRight(strings.TrimRight(text, "0"), ".")...)
}
