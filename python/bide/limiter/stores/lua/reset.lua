-- Forgets a key, but for the mark that it was forgotten on purpose: what clients remember is not put back.

for n = 1, limits do
  put(n, 0, ENDED)
end
write()
return reply(1, 0)
