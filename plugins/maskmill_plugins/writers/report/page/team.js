// What people decided, if somebody has.

function showTeam() {
  const team = data.about.team;
  $("team").hidden = !team;
  if (team) $("team").replaceChildren(el("h2", {}, t("team")), el("p", {class: "sub"}, t("team_sub")), teamView(team, {el, language, heading: "h3"}));
}
