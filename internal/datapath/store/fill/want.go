package fill

// want sees to it that the byte at a place is brought: by who comes by soon, by a new pump
// from there, or by who comes by at some time.
func (x *coming) want(at int64) {
	p, gap := x.before(at)
	switch {
	case x.single: // the only one comes by, or the next one does
	case p != nil && (at < p.claimed || at-p.at <= x.filler.cfg.Near):
	case len(x.pumps) >= x.filler.cfg.Pumps:
	case x.spare > x.untended(at):
		x.start(at)
	case p == nil:
		x.start(gap)
	}
}

// before is who would come by a place, and where what is missing there begins.
func (x *coming) before(at int64) (p *pump, from int64) {
	gap, ok := x.part.Missing(0)
	for ok && gap.To <= at {
		gap, ok = x.part.Missing(gap.To)
	}
	for _, q := range x.pumps {
		if here := x.place(q); !q.gone && here >= gap.From && here <= at && (p == nil || here > x.place(p)) {
			p = q
		}
	}
	return p, gap.From
}

// place is the first byte that a pump is still to write: it may just have written some.
func (x *coming) place(p *pump) int64 { return max(p.at, min(x.part.Covered(p.at), p.claimed)) }

// untended is how many gaps there are that nobody begins to close, if somebody does at a
// place: each will take an answer more.
func (x *coming) untended(at int64) (n int) {
	for gap, ok := x.part.Missing(0); ok; gap, ok = x.part.Missing(gap.To) {
		tended := gap.From == at
		for _, q := range x.pumps {
			tended = tended || !q.gone && x.place(q) == gap.From
		}
		if !tended {
			n++
		}
	}
	return n
}

// next is where to go on when nobody brings anything: where somebody waits, else at the
// first byte that is missing.
func (x *coming) next() (at int64, missing bool) {
	for _, r := range x.waiting {
		if r.at < x.size && x.part.Covered(r.at) == r.at {
			_, gap := x.before(r.at)
			return gap, true
		}
	}
	gap, missing := x.part.Missing(0)
	return gap.From, missing
}
