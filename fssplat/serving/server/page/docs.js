// The routes of openapi.json as a table.

function cell(...parts) {
  const made = document.createElement("td");
  made.append(...parts);
  return made;
}

function code(text) {
  const made = document.createElement("code");
  made.textContent = text;
  return made;
}

function fields(operation, schemas) {
  const lines = (operation.parameters || []).map(one => [`${one.name} (${one.in})`, one.description]);
  for (const { schema = {} } of Object.values((operation.requestBody || {}).content || {})) {
    const found = schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema;
    for (const [name, one] of Object.entries(found.properties || {})) lines.push([name, one.description]);
  }
  return lines.flatMap(([name, text]) => [code(name), text ? ` ${text}` : "", document.createElement("br")]);
}

const api = await (await fetch("openapi.json")).json();
document.getElementById("routes").append(...Object.entries(api.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => {
    const row = document.createElement("tr");
    const text = (operation.description || operation.summary || "").split("\n\n")[0];
    row.append(cell(code(`${method.toUpperCase()} ${path}`)), cell(text), cell(...fields(operation, api.components.schemas)));
    return row;
  })));
