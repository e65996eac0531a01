"""What makes the galleries of the page sortable and filterable; without it the page shows all stamps in their order."""

SCRIPT = """
'use strict';
const controls = document.getElementById('controls');
const told = document.getElementById('told');
const cards = [...document.querySelectorAll('.stamps > li')];
const value = name => document.getElementById(name).value;
const order = {
  given: (a, b) => a.dataset.given - b.dataset.given,
  surest: (a, b) => b.dataset.probability - a.dataset.probability,
  least: (a, b) => a.dataset.probability - b.dataset.probability,
  id: (a, b) => a.dataset.id.localeCompare(b.dataset.id, 'en', {numeric: true}),
  actual: (a, b) => a.dataset.actual - b.dataset.actual,
  predicted: (a, b) => a.dataset.predicted - b.dataset.predicted,
};
const byFeature = name => (a, b) => {
  const [one, other] = [a.dataset[name], b.dataset[name]];
  // What has no value comes last.
  return one && other ? one - other : Boolean(other) - Boolean(one);
};
function show() {
  const wanted = {actual: value('of-class'), predicted: value('taken-for')};
  const part = value('of-id').trim().toLowerCase();
  for (const card of cards) {
    card.hidden = !card.dataset.id.toLowerCase().includes(part)
      || Object.entries(wanted).some(([name, number]) => number !== '' && card.dataset[name] !== number);
  }
  const by = value('sorted-by');
  const compare = order[by] || byFeature(by);
  for (const list of document.querySelectorAll('.stamps')) {
    list.append(...[...list.children].sort((a, b) => compare(a, b) || order.given(a, b)));
  }
  told.textContent = `${cards.filter(card => !card.hidden).length} of ${cards.length} stamps shown`;
}
controls.hidden = false;
controls.addEventListener('input', show);
show();
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(each => { each.open = true; }));
"""
